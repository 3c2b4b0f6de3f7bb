"""NVIDIA's TensorRT-RTX plugin for ONNX Runtime: an RTX card, and no plans to build beforehand.

The plugin compiles each graph when it is loaded, every time a process starts; plans that
`convert build` made load in a moment. This is for trying a bundle on a card, and for bundles that
change often. It needs the plain onnxruntime, the one that the CPU backends use.
"""

import functools
from typing import Final

from engines import layout
from engines.axes import Limits, fixed_limits
from engines.backend import Backend
from engines.backends.packages import import_fault
from engines.bundle import Bundle
from engines.cuda_driver import no_gpu_reason, probe_driver
from engines.errors import BackendError
from engines.manifest import TensorSpec
from engines.session import Session

PROVIDER: Final = "NvTensorRTRTXExecutionProvider"

AMPERE_AND_ADA: Final = frozenset({(8, 6), (8, 9)})
BLACKWELL: Final = (12, 0)
"""The compute capabilities that the plugin runs on: these two, and from this one on."""

PROFILE: Final[dict[str, tuple[int, int, int]]] = {
    "batch": (1, 2, 16),
    "height": (8, 64, 128),
    "width": (8, 64, 128),
    "picture_height": (64, 512, 1024),
    "picture_width": (64, 512, 1024),
    "tokens": (layout.CHUNK_TOKENS, layout.CHUNK_TOKENS, 4 * layout.CHUNK_TOKENS),
}
"""For each axis the least, the usual and the largest size: 64 to 1024 pixels, 8 pictures."""


class OrtTensorRtRtxBackend:
    """TensorRT for RTX, through ONNX Runtime's plugin."""

    name = "ort-tensorrt-rtx"
    max_batch = 8

    @property
    def device(self) -> str:
        """The GPU's name."""
        return f"{probe_driver().gpus[0].name}, TensorRT-RTX in ONNX Runtime"

    def unavailable(self, bundle: Bundle) -> str | None:
        """The driver, a GPU of the right kind or the packages can be missing."""
        reason = no_gpu_reason()  # first: the plugin cannot be loaded without a driver
        if reason is not None:
            return reason
        gpu = probe_driver().gpus[0]
        if gpu.capability not in AMPERE_AND_ADA and gpu.capability < BLACKWELL:
            return (
                f"TensorRT-RTX's plugin does not run on the {gpu.name} "
                f"(compute capability {gpu.capability[0]}.{gpu.capability[1]}); "
                "use the backend tensorrt or cuda"
            )
        try:
            import onnxruntime  # noqa: F401
            import onnxruntime_ep_nv_tensorrt_rtx  # noqa: F401
        except ImportError as error:
            return import_fault(error, "pip install 'fracture-sd[ort-tensorrt-rtx]'")
        return None

    def limits(self, bundle: Bundle) -> Limits:
        """`PROFILE`, and what the graphs were exported for."""
        profile = {axis: (least, most) for axis, (least, _, most) in PROFILE.items()}
        fixed = fixed_limits(bundle.manifest)
        return Limits(
            {
                component: tuple({**profile, **ranges} for ranges in alternatives)
                for component, alternatives in fixed.components.items()
            }
        )

    def open_session(self, bundle: Bundle, component: str) -> Session:
        """Compile one component for the GPU; no node of it may run elsewhere."""
        import onnxruntime

        from engines.backends.ort_device import GpuProvider, OrtDeviceSession

        devices = _devices()
        inputs = bundle.component(component).inputs

        def configure(options: onnxruntime.SessionOptions) -> None:
            options.add_provider_for_devices(devices[:1], profile_options(inputs))

        return OrtDeviceSession(bundle, component, GpuProvider(PROVIDER, configure))


def profile_options(inputs: tuple[TensorSpec, ...]) -> dict[str, str]:
    """The plugin's options for the shapes that a graph's inputs may have."""
    options = {}
    for place, kind in enumerate(("min", "opt", "max")):
        shapes = {
            tensor.name: "x".join(
                str(PROFILE[axis][place] if isinstance(axis, str) else axis)
                for axis in tensor.shape
            )
            for tensor in inputs
        }
        options[f"nv_profile_{kind}_shapes"] = ",".join(
            f"{name}:{shape}" for name, shape in shapes.items()
        )
    return options


@functools.cache
def _devices() -> list[object]:
    """Register the plugin with ONNX Runtime, once a process, and list its GPUs."""
    import onnxruntime
    import onnxruntime_ep_nv_tensorrt_rtx as plugin

    library = plugin.get_library_path()
    try:
        onnxruntime.register_execution_provider_library(PROVIDER, library)
    except Exception as error:  # ONNX Runtime has no public base class for its errors
        raise BackendError(f"TensorRT-RTX's plugin {library} does not load: {error}") from error
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]
    if not devices:
        raise BackendError(f"TensorRT-RTX's plugin {library} offers no GPU here.")
    return devices


BACKEND: Final[Backend] = OrtTensorRtRtxBackend()
