"""Writing a traced graph with its weights, tensor by tensor, and describing what was written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch

from convert.model import Component
from convert.trace import TracedGraph
from convert.weights import load_values
from engines import layout
from engines.errors import InternalError
from engines.manifest import ComponentSpec, TensorSpec
from engines.weight_map import WeightSource

_INLINE_BYTES = 256
"""Tensors smaller than this stay in the graph's own file."""


def write_graph(
    traced: TracedGraph,
    component: Component,
    dtype: torch.dtype,
    path: Path,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> None:
    """Write the graph to `path` and its weights beside it, holding one of them at a time.

    Args:
        traced: the graph; it is given its weights and is of no further use.
        component: where the weights' values lie.
        dtype: what they are rounded to.
        path: the .onnx file.
        on_bytes: called with the size of each weight once it is written.

    Raises:
        InputError: a value is not finite in `dtype`.
        InternalError: the graph is not valid ONNX.
    """
    for name, source in traced.weights.items():
        value = traced.model.graph.initializers[name]
        value.const_value = _lazy(value, component, dtype, source)
    ir.save(
        traced.model,
        path,
        external_data=layout.GRAPH_DATA_FILE,
        size_threshold_bytes=_INLINE_BYTES,
        callback=lambda tensor, _: on_bytes(tensor.nbytes),
    )
    try:
        onnx.checker.check_model(path)
    except onnx.checker.ValidationError as error:
        raise InternalError(f"the exporter made an invalid graph, {path.parent.name}") from error


def describe_graph(path: Path, name: str, dtype: str) -> ComponentSpec:
    """The manifest's entry for the graph at `path`, read back from the file.

    Args:
        path: the .onnx file.
        name: its component in the layout.
        dtype: numpy's name for the weights' dtype.
    """
    graph = onnx.load(path, load_external_data=False).graph
    weights = {value.name for value in graph.initializer}
    return ComponentSpec(
        graph=layout.graph_file(name),
        dtype=dtype,
        inputs=tuple(_tensor(value) for value in graph.input if value.name not in weights),
        outputs=tuple(_tensor(value) for value in graph.output),
    )


def _lazy(
    value: ir.Value, component: Component, dtype: torch.dtype, source: WeightSource
) -> ir.LazyTensor:
    name = str(value.name)
    if value.shape is None or value.dtype is None:
        raise InternalError(f"the exporter lost the type of {name}")

    def load() -> ir.TensorProtocol:
        array = source.arrange(load_values(component, source.tensor, dtype).numpy())
        return ir.tensor(np.ascontiguousarray(array), name=name)

    return ir.LazyTensor(load, value.dtype, value.shape, name=name)


def _tensor(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    return TensorSpec(
        name=value.name,
        dtype=onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name,
        shape=tuple(axis.dim_param or axis.dim_value for axis in tensor.shape.dim),
    )
