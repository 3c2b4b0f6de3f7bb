"""Weights for a plan that was stripped of them, from the bundle's own ONNX graph."""

from pathlib import Path

from engines.backends.trt_api import ICudaEngine, OnnxParserRefitter
from engines.backends.trt_machine import Machine
from engines.errors import BackendError


def refit(machine: Machine, engine: ICudaEngine, graph: Path) -> None:
    """Give an engine all of its weights.

    Args:
        machine: the GPU that the engine was loaded on.
        engine: a stripped engine, of which no context exists yet.
        graph: the ONNX graph that it was built from, its weights beside it.

    Raises:
        BackendError: TensorRT refuses a weight or misses one; the engine is then of no use.
    """
    module = machine.library.module
    refitter = module.Refitter(engine, machine.library.logger)
    parser = module.OnnxParserRefitter(refitter, machine.library.logger)
    if not parser.refit_from_file(str(graph)):
        raise BackendError(_failure(graph, _parser_errors(parser) or machine.library.reasons()))
    if missing := refitter.get_missing_weights():
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise BackendError(_failure(graph, f"{len(missing)} weights are missing: {shown}"))
    if not refitter.refit_cuda_engine():
        raise BackendError(_failure(graph, machine.library.reasons()))


def _parser_errors(parser: OnnxParserRefitter) -> str:
    return "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))


def _failure(graph: Path, reason: str) -> str:
    return (
        f"The stripped plan cannot be refitted from {graph}: {reason}. "
        "Build the plans again, or without --strip."
    )
