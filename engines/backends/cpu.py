"""ONNX Runtime's CPU provider: runs everywhere, exact in float32."""

from typing import Final

from engines.axes import Limits, fixed_limits
from engines.backend import Backend
from engines.backends.packages import import_fault
from engines.bundle import Bundle
from engines.session import Session


class CpuBackend:
    """The CPU provider of ONNX Runtime."""

    name = "cpu"
    device = "CPU, ONNX Runtime"
    max_batch = 4

    def unavailable(self, bundle: Bundle) -> str | None:
        """Only the package can be missing."""
        try:
            import onnxruntime  # noqa: F401
        except ImportError as error:
            return import_fault(error, "pip install 'fracture-sd[cpu]'")
        return None

    def limits(self, bundle: Bundle) -> Limits:
        """What the graphs were exported for."""
        return fixed_limits(bundle.manifest)

    def open_session(self, bundle: Bundle, component: str) -> Session:
        """Load one component."""
        from engines.backends.ort import OrtSession

        return OrtSession(bundle.component(component), bundle.graph(component))


BACKEND: Final[Backend] = CpuBackend()
