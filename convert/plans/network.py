"""Reading an ONNX graph into a TensorRT network."""

from pathlib import Path
from typing import Any, Final

from convert.plans.api import Builder, INetworkDefinition, OnnxParser, ParserError, TensorRt
from convert.plans.library import plain
from engines.errors import BackendError

_TYPING: Final = ("same input types", "must have same", "but they are of types", "is of type")
_UNKNOWN: Final = ("UNSUPPORTED", "Plugin not found", "No importer registered")
_MEMORY: Final = "std::bad_alloc"

STRONGLY_TYPED: Final = 0
"""What TensorRT 11 and TensorRT for RTX make of no flags: the graph alone sets the dtypes."""


def parse_graph(
    library: TensorRt, builder: Builder, logger: Any, graph: Path, component: str
) -> INetworkDefinition:
    """The network of a graph, strongly typed.

    Args:
        library: TensorRT's module.
        builder: makes the network.
        logger: TensorRT's.
        graph: the ONNX file, with its weights beside it.
        component: whose it is, for the error.

    Raises:
        BackendError: TensorRT cannot take a node; the error names it.
        MemoryError: the memory did not suffice.
    """
    network = builder.create_network(STRONGLY_TYPED)
    parser = library.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        raise BackendError(_refusal(parser, component))
    return network


def _refusal(parser: OnnxParser, component: str) -> str:
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    if any(_MEMORY in error.desc() for error in errors):
        raise MemoryError
    if not errors:
        return f"TensorRT cannot read the {component} and does not say why. Export it again."
    return " ".join(_describe(error, component) for error in errors[:3])


def _describe(error: ParserError, component: str) -> str:
    reason = plain(error.desc())
    if error.node() < 0:
        return f"TensorRT cannot read the {component}: {reason}. Export the bundle again."
    where = f"node {error.node_name() or error.node()} ({error.node_operator()})"
    if any(mark in reason for mark in _TYPING):
        return (
            f"TensorRT refuses the {component} at {where}, whose inputs differ in dtype: {reason}. "
            "Export the bundle again in one dtype."
        )
    named = reason if len(reason) > len("false") else f"refused in {error.func()}"
    return (
        f"TensorRT does not support {where} of the {component}: {named}. "
        "Export the bundle again, with the default --opset."
    )
