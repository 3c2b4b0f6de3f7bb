"""From a torch module to an ONNX graph whose weights are named and not yet there.

The graph is traced with tensors that have no values, so that no pass can fold weights into
constants without a name, and so that a full-size model needs no memory until it is written.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import onnx_ir as ir
import onnx_ir.passes.common as passes
import torch
from onnxscript.optimizer import fold_constants

from convert.export_options import OPSETS
from convert.graphs import GRAPHS, PREFIX, dynamic_shapes, example_inputs, make_traceable
from convert.model import Component, canonical_name
from convert.weights import fake_network
from engines import layout
from engines.errors import InternalError
from engines.weight_map import WeightSource

_FOLD_LIMIT: Final = 1024
_CHATTING: Final = ("onnx_ir", "onnxscript", "torch.onnx._internal.exporter._registration")


@dataclass(frozen=True)
class TracedGraph:
    """A graph without its weights' values.

    `weights` has an entry for each initializer that is a parameter of the model, by the
    parameter's name: how the stored values are turned into what the graph reads.
    """

    model: ir.Model
    weights: dict[str, WeightSource]

    def constants(self) -> tuple[str, ...]:
        """The initializers that are no parameter of the model."""
        return tuple(name for name in self.model.graph.initializers if name not in self.weights)


def trace_graph(
    name: str,
    component: Component,
    dtype: torch.dtype,
    opset: int = OPSETS[0],
    fixed: Mapping[str, int] = MappingProxyType({}),
) -> TracedGraph:
    """Trace the bundle's component `name`.

    Args:
        name: a component of the layout.
        component: the model's part that it comes from.
        dtype: of weights and activations; token ids stay int64 and timesteps float32.
        opset: one of `OPSETS`.
        fixed: the sizes of those of the layout's axes that are not to be dynamic.
    """
    with _exporter_kept_quiet():
        model = translate(name, component, dtype, opset, fixed)
        return _finish(model, name, component.name, fixed)


def translate(
    name: str,
    component: Component,
    dtype: torch.dtype,
    opset: int,
    fixed: Mapping[str, int],
) -> ir.Model:
    """Torch's own translation, with every weight under its name in the module.

    The arguments are those of `trace_graph`.
    """
    kind = GRAPHS[name]
    network, mode = fake_network(component, dtype)
    make_traceable(name, network)
    with torch.no_grad(), mode:
        program = torch.export.export(
            kind.module(network),
            example_inputs(name, component.config, dtype, fixed),
            dynamic_shapes=dynamic_shapes(name, fixed),
            strict=False,
        )
        onnx_program = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=opset,
            input_names=list(layout.COMPONENTS[name].inputs),
            output_names=list(layout.COMPONENTS[name].outputs),
            optimize=False,
            verbose=False,
        )
    if onnx_program is None:
        raise InternalError(f"the exporter returned nothing for {name}")
    return onnx_program.model


def _finish(model: ir.Model, name: str, source: str, fixed: Mapping[str, int]) -> TracedGraph:
    graph = model.graph
    names = name_weights(graph, source)
    fold_constants(
        model,
        onnx_shape_inference=True,
        input_size_limit=_FOLD_LIMIT,
        output_size_limit=_FOLD_LIMIT,
    )
    for cleaning in (
        passes.RemoveUnusedNodesPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.ClearMetadataAndDocStringPass(),
    ):
        cleaning(model)
    sources = _absorb_rearrangements(graph, names & graph.initializers.keys())
    passes.RemoveUnusedNodesPass()(model)
    _name_axes(graph, layout.COMPONENTS[name], fixed)
    graph.name = name
    return TracedGraph(model, {key: sources[key] for key in graph.initializers if key in sources})


def name_weights(graph: ir.Graph, source: str) -> set[str]:
    """Name each weight of a translation as the model's component `source` has it stored."""
    names = set()
    for value in list(graph.initializers.values()):
        parameter = str(value.name)
        stored = canonical_name(source, parameter.removeprefix(PREFIX))
        if parameter.startswith(PREFIX) and stored is not None:
            value.const_value = None
            value.name = stored
            names.add(stored)
    return names


def _absorb_rearrangements(graph: ir.Graph, names: set[str]) -> dict[str, WeightSource]:
    """Remove each Transpose and Unsqueeze of a weight; say how the weight is to be stored instead.

    An engine would do the same when it loads the graph, and lose the weight's name.
    """
    sources = {name: as_stored(graph.initializers[name]) for name in names}
    for node in list(graph):
        weight = node.inputs[0] if node.inputs else None
        if weight is None or weight.name not in names or len(weight.uses()) != 1:
            continue
        source = _rearranged(sources[weight.name], node)
        if source is None:
            continue
        output = node.outputs[0]
        weight.shape = ir.Shape(source.shape)
        output.replace_all_uses_with(weight)
        graph.remove(node, safe=True)
        sources[weight.name] = source
    return sources


def as_stored(weight: ir.Value) -> WeightSource:
    """What says that a weight lies in the graph as it does in the model."""
    if weight.shape is None or not weight.shape.is_static():
        raise InternalError(f"the exporter lost the shape of {weight.name}")
    shape = weight.shape.numpy()
    return WeightSource(str(weight.name), tuple(range(len(shape))), shape)


def _rearranged(source: WeightSource, node: ir.Node) -> WeightSource | None:
    """What a node makes of a weight; None where it is no rearrangement, or cannot be said."""
    if node.op_type == "Transpose" and len(source.order) == len(source.shape):
        order = tuple(node.attributes["perm"].as_ints())
        return replace(
            source,
            order=tuple(source.order[axis] for axis in order),
            shape=tuple(source.shape[axis] for axis in order),
        )
    if node.op_type == "Unsqueeze":
        axes_input = node.inputs[1]
        if axes_input is None or axes_input.const_value is None:
            return None
        rank = len(source.shape) + axes_input.const_value.size
        new = {int(axis) % rank for axis in axes_input.const_value.numpy()}
        sizes = iter(source.shape)
        return replace(source, shape=tuple(1 if i in new else next(sizes) for i in range(rank)))
    return None


def _name_axes(graph: ir.Graph, axes: layout.ComponentLayout, fixed: Mapping[str, int]) -> None:
    """Give inputs and outputs the layout's axis names; drop the tracer's names and notes inside."""
    for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
        value.metadata_props.clear()
    for node in graph:
        for output in node.outputs:
            output.metadata_props.clear()
            if not output.is_graph_output():
                output.shape = None
    for values, expected in ((graph.inputs, axes.inputs), (graph.outputs, axes.outputs)):
        for value, (name, named) in zip(values, expected.items(), strict=True):
            if value.name != name or value.shape is None or len(value.shape) != len(named):
                raise InternalError(f"the exporter made {value} of {name}{named}")
            value.shape = ir.Shape(
                [
                    fixed.get(axis, axis) if isinstance(axis, str) else size
                    for axis, size in zip(named, value.shape, strict=True)
                ]
            )


@contextlib.contextmanager
def _exporter_kept_quiet() -> Iterator[None]:
    """Keep back what torch and its passes tell their own developers."""
    loggers = [logging.getLogger(name) for name in _CHATTING]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning
            )
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
