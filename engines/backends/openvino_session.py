"""One graph in OpenVINO, fed from and answered into the machine's main memory."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from engines.backends.openvino_library import import_library
from engines.backends.openvino_upsampling import merge_upsampling
from engines.backends.shortage import failure
from engines.manifest import ComponentSpec
from engines.session import Array, Session

openvino = import_library()

_OPTIONS: Final = {"PERFORMANCE_HINT": "LATENCY"}
"""All cores work on one call. What it computes in is OpenVINO's own choice for the CPU."""

_ERRORS: Final = (RuntimeError, ValueError, MemoryError)
"""What OpenVINO's exceptions are in Python; it has no class of its own for them."""


class OpenVinoSession(Session):
    """A graph that OpenVINO has compiled for some sizes of its axes."""

    def __init__(
        self, spec: ComponentSpec, graph: Path, device: str, sizes: Mapping[str, int]
    ) -> None:
        """Compile a graph.

        Args:
            spec: what the bundle says of it.
            graph: the .onnx file.
            device: OpenVINO's name of what it runs on.
            sizes: for each dynamic axis of the inputs that is to be fixed, its size.

        Raises:
            BackendError: OpenVINO refuses the graph.
            OutOfMemoryError: memory was short while it was read or compiled.
        """
        super().__init__(spec)
        shapes = {
            tensor.name: [
                sizes.get(axis, -1) if isinstance(axis, str) else axis for axis in tensor.shape
            ]
            for tensor in spec.inputs
        }
        try:
            model = _core().read_model(graph)
            model.reshape(shapes)
            merge_upsampling(model)
            self._request: Any = (
                _core().compile_model(model, device, _OPTIONS).create_infer_request()
            )
        except _ERRORS as error:
            raise failure(f"OpenVINO cannot load {graph}", error) from error
        self._bound: dict[str, Any] = {}

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        try:
            for name, array in feeds.items():
                # OpenVINO reads what is bound where it lies, and takes no memory that it may not
                # write to.
                self._bound[name] = openvino.Tensor(array, shared_memory=array.flags.writeable)
                self._request.set_tensor(name, self._bound[name])
            self._request.infer()
        except _ERRORS as error:
            raise failure("OpenVINO failed while running", error) from error
        return {tensor.name: self._request.get_tensor(tensor.name).data for tensor in self.outputs}

    def close(self) -> None:
        """Release the graph."""
        self._request = None
        self._bound = {}


@cache
def _core() -> Any:
    """What knows the devices of this process."""
    return openvino.Core()
