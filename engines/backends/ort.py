"""ONNX Runtime: loading a graph, and the session of its CPU provider."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import onnxruntime

from engines.backends.shortage import failure
from engines.errors import BackendError
from engines.manifest import ComponentSpec
from engines.session import Array, Session

_log = logging.getLogger(__name__)

_PROVIDER: Final = "CPUExecutionProvider"

_ERROR, _FATAL = 3, 4
"""Severities from which ONNX Runtime writes to stderr; its errors are raised as well."""

Configure = Callable[[onnxruntime.SessionOptions], None]
"""Puts entries, and plugins with their devices, into a session's options."""


def load_graph(
    graph: Path,
    provider: str,
    configure: Configure = lambda options: None,
    built_in: Mapping[str, str] | None = None,
) -> onnxruntime.InferenceSession:
    """Load a graph on one provider.

    Args:
        graph: the .onnx file.
        provider: the provider that has to be the active one.
        configure: puts the provider into the options, where it is a plugin.
        built_in: the options of a provider that is part of ONNX Runtime.

    Raises:
        BackendError: ONNX Runtime refuses the graph, or took another provider.
        OutOfMemoryError: memory was short while it was read or compiled.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERROR if _log.isEnabledFor(logging.DEBUG) else _FATAL
    configure(options)
    providers = None if built_in is None else [(provider, dict(built_in))]
    try:
        session = onnxruntime.InferenceSession(str(graph), options, providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime has no public base class for its errors
        raise failure(f"ONNX Runtime cannot load {graph}", error) from error
    active = session.get_providers()
    if active[0] != provider:
        raise BackendError(
            f"ONNX Runtime loaded {graph} on {active[0]} instead of {provider}. "
            "Choose another --backend or repair the installation."
        )
    return session


def run_error(error: Exception, where: str = "") -> BackendError:
    """What a failed run means to the user.

    Args:
        error: what ONNX Runtime raised.
        where: after "ONNX Runtime failed while running", such as " on the GPU".
    """
    return failure(f"ONNX Runtime failed while running{where}", error)


class OrtSession(Session):
    """One graph in ONNX Runtime, fed from and answered into the machine's main memory."""

    def __init__(self, spec: ComponentSpec, graph: Path) -> None:
        super().__init__(spec)
        self._session: Any = load_graph(graph, _PROVIDER)
        self._names = [tensor.name for tensor in self.outputs]
        self._bound: dict[str, Array] = {}

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        self._bound.update(feeds)
        try:
            arrays = self._session.run(self._names, self._bound)
        except Exception as error:
            raise run_error(error) from error
        return dict(zip(self._names, arrays, strict=True))

    def close(self) -> None:
        """Release the graph."""
        self._session = None
        self._bound = {}
