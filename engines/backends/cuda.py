"""ONNX Runtime's CUDA provider: runs a bundle's graphs on NVIDIA GPUs without building plans."""

import contextlib
import ctypes
import io
import logging
from typing import Final

from engines.axes import Limits, fixed_limits
from engines.backend import Backend
from engines.bundle import Bundle
from engines.cuda_driver import no_gpu_reason, probe_driver
from engines.session import Session

PROVIDER: Final = "CUDAExecutionProvider"

SHAPE_OPERATORS: Final = frozenset(
    {
        "Add", "And", "Cast", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand",
        "Flatten", "Floor", "Gather", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul",
        "Neg", "Range", "ReduceProd", "Reshape", "Shape", "Size", "Slice", "Squeeze", "Sub",
        "Unsqueeze", "Where",
    }
)  # fmt: skip
"""What a graph with dynamic axes computes its shapes with; the provider leaves it to the CPU."""

_INSTALL: Final = (
    "run: pip uninstall onnxruntime onnxruntime-gpu, then pip install 'fracture-sd[cuda]'"
)

logger = logging.getLogger(__name__)


class CudaBackend:
    """The CUDA provider of ONNX Runtime.

    With `graph`, each set of input shapes is recorded as a CUDA graph and replayed.
    """

    max_batch = 8

    def __init__(self, *, graph: bool = False) -> None:
        self.name = "cuda-graph" if graph else "cuda"
        self.graph = graph

    @property
    def device(self) -> str:
        """The GPU's name."""
        how = "with CUDA graphs" if self.graph else "without CUDA graphs"
        return f"{probe_driver().gpus[0].name}, ONNX Runtime CUDA {how}"

    def unavailable(self, bundle: Bundle) -> str | None:
        """A GPU, the package or CUDA's libraries can be missing, or the driver too old."""
        reason = no_gpu_reason()
        if reason is not None:
            return reason
        try:
            import onnxruntime
        except ImportError as error:
            return f"the package onnxruntime-gpu does not load ({error}); {_INSTALL}"
        if PROVIDER not in onnxruntime.get_available_providers():
            return (
                f"the onnxruntime {onnxruntime.__version__} that is installed was built without "
                "CUDA (installed side by side, onnxruntime and onnxruntime-gpu overwrite each "
                f"other); {_INSTALL}"
            )
        return _library_fault(onnxruntime.cuda_version)

    def limits(self, bundle: Bundle) -> Limits:
        """What the graphs were exported for."""
        return fixed_limits(bundle.manifest)

    def open_session(self, bundle: Bundle, component: str) -> Session:
        """Load one component; only shapes may be computed on the CPU."""
        from engines.backends.ort_device import GpuProvider, OrtDeviceSession

        provider = GpuProvider(
            PROVIDER,
            lambda options: None,
            built_in={"enable_cuda_graph": "1" if self.graph else "0"},
            graph_id="gpu_graph_id" if self.graph else None,
            off_gpu=SHAPE_OPERATORS,
        )
        return OrtDeviceSession(bundle, component, provider)


def _library_fault(built_for: str) -> str | None:
    """What keeps ONNX Runtime's CUDA provider from loading, which it only logs itself.

    Args:
        built_for: the version of CUDA that the package was built for, such as "13.0".
    """
    import onnxruntime

    major = int(built_for.split(".")[0])
    newest = probe_driver().cuda
    if newest[0] < major:
        return (
            f"the NVIDIA driver runs CUDA up to {newest[0]}.{newest[1]}, and this "
            f"onnxruntime-gpu needs {built_for}; update the driver"
        )
    with contextlib.redirect_stdout(io.StringIO()) as said:
        onnxruntime.preload_dlls()
    logger.debug("%s", said.getvalue())
    libraries = [f"lib{name}.so.{major}" for name in ("cudart", "cublas", "cublasLt")]
    faults = [fault for name in [*libraries, "libcudnn.so.9"] if (fault := _load_fault(name))]
    if not faults:
        return None
    return (
        f"CUDA {major}'s libraries do not load ({'; '.join(faults)}); "
        "run: pip install 'fracture-sd[cuda]'"
    )


def _load_fault(library: str) -> str | None:
    try:
        ctypes.CDLL(library)
    except OSError as error:
        return str(error)
    return None


BACKEND: Final[Backend] = CudaBackend()
BACKEND_WITH_GRAPHS: Final[Backend] = CudaBackend(graph=True)
