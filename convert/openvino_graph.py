"""The UNet's graph in the arrangement that OpenVINO runs fastest on AMX, beside everyone's.

It computes the same. AMX multiplies 32 numbers of a key at a time, and OpenVINO takes longer for
what is left over: heads whose width is no multiple of it get columns of zeros in the weights that
make queries and keys, which add nothing to their products. And OpenVINO copies the halves of an
array one number at a time: a projection of which one half gates the other becomes two projections.
`python -m benchmarks.openvino_call` measures what that brings.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from engines import layout
from engines.errors import InternalError

_BLOCK: Final = 32
_INLINE_BYTES: Final = 256

Weight = NDArray[Any]


def write_openvino_graph(path: Path) -> Path:
    """Write the arrangement of a UNet's graph beside it; weights that stay are shared.

    Args:
        path: the graph as it was exported.

    Returns:
        The path of the new graph.

    Raises:
        InternalError: the graph is not as the exporter writes it.
    """
    model = ir.load(path)
    graph = model.graph
    for softmax in _nodes(graph, "Softmax"):
        _widen_heads(graph, softmax)
    for split in _nodes(graph, "Split"):
        _split_projection(graph, split)
    RemoveUnusedNodesPass()(model)
    out = path.with_name(layout.OPENVINO_GRAPH_FILE)
    made = [
        value
        for value in graph.initializers.values()
        if isinstance(value.const_value, ir.Tensor) and value.const_value.nbytes > _INLINE_BYTES
    ]
    tensors = [value.const_value for value in made if value.const_value is not None]
    data = f"{layout.OPENVINO_GRAPH_FILE}_data"
    external = ir.external_data.convert_tensors_to_external(tensors, out.parent, data)
    for value, tensor in zip(made, external, strict=True):
        value.const_value = tensor
    ir.save(model, out)
    try:
        onnx.checker.check_model(out)
    except onnx.checker.ValidationError as error:
        raise InternalError(f"the arrangement for OpenVINO is no valid graph: {error}") from error
    return out


def _widen_heads(graph: ir.Graph, softmax: ir.Node) -> None:
    """Widen the heads of one attention's queries and keys.

    Queries are projected, cut into heads, transposed and scaled. Keys are so too, and turned in
    between by way of three dimensions.
    """
    product = _producer(softmax, 0, "MatMul")
    queries = _producer(_producer(_producer(product, 0, "Mul"), 0, "Transpose"), 0, "Reshape")
    turned = _producer(_producer(product, 1, "Mul"), 0, "Reshape")
    flat = _producer(_producer(turned, 0, "Transpose"), 0, "Reshape")
    keys = _producer(_producer(flat, 0, "Transpose"), 0, "Reshape")
    heads, width = _head_shape(queries)
    if _head_shape(keys) != (heads, width):
        raise _unexpected(softmax)
    wide = -(-width // _BLOCK) * _BLOCK
    if width < _BLOCK or wide == width:
        return
    for reshape in (queries, keys):
        projection = _producer(reshape, 0, "MatMul")
        name, weight = _weight(projection, 1)
        padded = np.zeros((len(weight), heads, wide), weight.dtype)
        padded[:, :, :width] = weight.reshape(-1, heads, width)
        value = _initializer(graph, f"{name}.wide", padded.reshape(-1, heads * wide))
        projection.replace_input_with(1, value)
        _set_size(graph, reshape, 3, wide)
    for reshape, axis in ((flat, 2), (turned, 2)):
        if _constant(reshape.inputs[1]) is not None:
            _set_size(graph, reshape, axis, wide)


def _split_projection(graph: ir.Graph, split: ir.Node) -> None:
    """Put two projections in the place of one whose output is split in halves."""
    added = _producer(split, 0, "Add")
    projection = _producer(added, 0, "MatMul")
    weight_name, weight = _weight(projection, 1)
    bias_name, bias = _weight(added, 1)
    if len(split.outputs) != 2 or weight.shape[1] % 2 or bias.shape != weight.shape[1:]:
        raise _unexpected(split)
    for half, output in enumerate(split.outputs):
        part = slice(half * len(bias) // 2, (half + 1) * len(bias) // 2)
        half_weight = _initializer(graph, f"{weight_name}.half{half}", weight[:, part])
        half_bias = _initializer(graph, f"{bias_name}.half{half}", bias[part])
        product = ir.node("MatMul", [projection.inputs[0], half_weight])
        total = ir.node("Add", [product.outputs[0], half_bias])
        graph.insert_after(split, [product, total])
        output.replace_all_uses_with(total.outputs[0])


def _head_shape(reshape: ir.Node) -> tuple[int, int]:
    """How many heads a reshape to four dimensions makes, and how wide each is."""
    return _size(reshape, 2), _size(reshape, 3)


def _size(reshape: ir.Node, axis: int) -> int:
    """The size of an axis that a reshape makes, which has to be known."""
    numbers = _constant(reshape.inputs[1])
    if numbers is None:
        parts = _producer(reshape, 1, "Concat").inputs
        numbers, axis = _constant(parts[axis]), 0
    if numbers is None:
        raise _unexpected(reshape)
    return int(numbers[axis])


def _set_size(graph: ir.Graph, reshape: ir.Node, axis: int, size: int) -> None:
    """Let a reshape make another size; others may go on using its shape."""
    numbers = _constant(reshape.inputs[1])
    name = f"{reshape.name}.size"
    if numbers is not None:
        numbers = numbers.copy()
        numbers[axis] = size
        reshape.replace_input_with(1, _initializer(graph, name, numbers))
        return
    shape = _producer(reshape, 1, "Concat")
    parts = list(shape.inputs)
    parts[axis] = _initializer(graph, name, np.array([size], np.int64))
    concat = ir.node("Concat", parts, attributes={"axis": 0})
    graph.insert_after(shape, concat)
    reshape.replace_input_with(1, concat.outputs[0])


def _nodes(graph: ir.Graph, kind: str) -> Iterator[ir.Node]:
    yield from [node for node in graph if node.op_type == kind]


def _producer(node: ir.Node, place: int, kind: str) -> ir.Node:
    value = node.inputs[place]
    producer = value.producer() if value is not None else None
    if producer is None or producer.op_type != kind:
        raise _unexpected(node)
    return producer


def _weight(node: ir.Node, place: int) -> tuple[str, Weight]:
    value = node.inputs[place]
    if value is None or value.const_value is None or value.name is None:
        raise _unexpected(node)
    return value.name, value.const_value.numpy()


def _constant(value: ir.Value | None) -> NDArray[Any] | None:
    """The array that a value always is, None where it depends on inputs."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def _initializer(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    tensor = ir.tensor(np.ascontiguousarray(array), name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
    value.const_value = tensor
    graph.register_initializer(value)
    return value


def _unexpected(node: ir.Node) -> InternalError:
    return InternalError(f"{node.op_type} {node.name} is not where the exporter puts it")
