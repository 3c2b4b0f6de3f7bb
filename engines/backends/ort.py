"""ONNX Runtime: the session that its execution providers share."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import onnxruntime

from engines.bundle import Bundle
from engines.errors import BackendError, OutOfMemoryError
from engines.session import Array, Session

_OUT_OF_MEMORY = re.compile(
    r"out of memory|failed to allocate|bad_alloc|bad allocation", re.IGNORECASE
)
"""How ONNX Runtime's arenas, CUDA and the C++ library say it; it has no error code for it."""


class OrtSession(Session):
    """One graph in ONNX Runtime, on the provider that `configure` puts into the options."""

    def __init__(
        self,
        bundle: Bundle,
        component: str,
        provider: str,
        configure: Callable[[onnxruntime.SessionOptions], None],
    ) -> None:
        super().__init__(bundle.component(component))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        configure(options)
        path = str(bundle.graph(component))
        try:
            self._session: Any = onnxruntime.InferenceSession(path, options)
        except Exception as error:  # ONNX Runtime has no public base class for its errors
            raise BackendError(f"ONNX Runtime cannot load {path}: {error}") from error
        active = self._session.get_providers()
        if active[0] != provider:
            raise BackendError(
                f"ONNX Runtime loaded {path} on {active[0]} instead of {provider}. "
                "Choose another --backend or repair the installation."
            )
        self._names = [tensor.name for tensor in self.outputs]
        self._bound: dict[str, Array] = {}

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        self._bound.update(feeds)
        try:
            arrays = self._session.run(self._names, self._bound)
        except Exception as error:
            kind = OutOfMemoryError if _OUT_OF_MEMORY.search(str(error)) else BackendError
            raise kind(f"ONNX Runtime failed while running: {error}") from error
        return dict(zip(self._names, arrays, strict=True))

    def close(self) -> None:
        """Release the graph."""
        self._session = None
        self._bound = {}
