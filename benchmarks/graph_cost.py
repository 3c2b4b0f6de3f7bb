"""What one run of an ONNX graph costs at given shapes: floating-point operations and bytes.

Shapes come from ONNX Runtime's symbolic shape inference, with every dynamic axis bound to a number
beforehand; it resolves all tensors of a bundle's graphs, where onnx's own leaves out those whose
shapes the graph computes, and onnx-tool 1.0.1 fails on the UNet. Only matrix products and
convolutions are counted, as torch.utils.flop_counter does: they are what tensor cores run, and
all but a few per mille of the work.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto, helper
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

Shape = tuple[int, ...]

SMALL = 20_000
"""Elements up to which an initializer's values are loaded, since shapes may depend on them."""

VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Shape"})
"""Operators that move no data."""


@dataclass(frozen=True)
class GraphCost:
    """The cost of one run.

    Attributes:
        flops: two for each multiplication with its addition, in Conv, MatMul and Gemm.
        weight_bytes: of all weights; what has to be read at the very least.
        activation_bytes: written and read between operators where none are fused; less with
            fusion, so no bound.
    """

    flops: int
    weight_bytes: int
    activation_bytes: int


def measure_graph(path: Path, axes: Mapping[str, int]) -> GraphCost:
    """Count what one run of the graph at `path` costs.

    Args:
        path: an ONNX graph, with external data beside it.
        axes: the size of every dynamic axis of its inputs, by name.

    Raises:
        KeyError: an input has an axis that `axes` does not have.
        ValueError: a tensor's shape could not be inferred.
    """
    model = _load(path, axes)
    shapes, sizes = _infer(model)
    flops = sum(
        _FLOPS[node.op_type](node, shapes) for node in model.graph.node if node.op_type in _FLOPS
    )
    weights = {t.name: math.prod(t.dims) * _width(t.data_type) for t in model.graph.initializer}
    written = read = 0
    for node in model.graph.node:
        if node.op_type not in VIEWS:
            written += sum(sizes[name] for name in node.output if name)
            read += sum(sizes[name] for name in node.input if name and name not in weights)
    return GraphCost(flops, sum(weights.values()), written + read)


def _load(path: Path, axes: Mapping[str, int]) -> onnx.ModelProto:
    """The graph with its inputs' axes bound, and without the weights' values."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        if uses_external_data(tensor) and math.prod(tensor.dims) <= SMALL:
            load_external_data_for_tensor(tensor, str(path.parent))
            del tensor.external_data[:]
            tensor.data_location = TensorProto.DEFAULT
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_param"):
                dim.dim_value = axes[dim.dim_param]
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    return model


def _infer(model: onnx.ModelProto) -> tuple[dict[str, Shape], dict[str, int]]:
    """Every tensor's shape, and the bytes of every tensor that is not a weight."""
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    inferred = SymbolicShapeInference.infer_shapes(model, auto_merge=False)
    shapes: dict[str, Shape] = {t.name: tuple(t.dims) for t in model.graph.initializer}
    sizes: dict[str, int] = {}
    graph = inferred.graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if not all(dim.HasField("dim_value") for dim in kind.shape.dim):
            raise ValueError(f"the shape of {value.name} could not be inferred")
        shape = tuple(dim.dim_value for dim in kind.shape.dim)
        shapes[value.name] = shape
        sizes[value.name] = math.prod(shape) * _width(kind.elem_type)
    lost = [name for node in model.graph.node for name in node.output if name not in shapes]
    if lost:
        raise ValueError(f"the shapes of {', '.join(lost)} could not be inferred")
    return shapes, sizes


def _width(elem_type: int) -> int:
    return helper.tensor_dtype_to_np_dtype(elem_type).itemsize


def _conv(node: NodeProto, shapes: Mapping[str, Shape]) -> int:
    """Each output element sums over the input channels of its group and over the kernel."""
    return 2 * math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])


def _matmul(node: NodeProto, shapes: Mapping[str, Shape]) -> int:
    return 2 * math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]


def _gemm(node: NodeProto, shapes: Mapping[str, Shape]) -> int:
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return 2 * math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else 1]


_FLOPS: dict[str, Callable[[NodeProto, Mapping[str, Shape]], int]] = {
    "Conv": _conv,
    "MatMul": _matmul,
    "Gemm": _gemm,
}
