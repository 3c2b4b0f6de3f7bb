"""The OpenVINO plugin of ONNX Runtime: the fast path on x86-64 CPUs, in bfloat16 on AMX."""

import functools
import threading
from collections.abc import Mapping
from typing import Final

from engines import layout
from engines.any_batch import open_to_any_batch
from engines.axes import Limits, fixed_limits
from engines.backend import Backend
from engines.backends.fixed_sizes import FixedSizesSession
from engines.bundle import Bundle
from engines.errors import BackendError
from engines.session import Session

PROVIDER: Final = "OpenVINOExecutionProvider"

_REGISTERING: Final = threading.Lock()


class OpenVinoBackend:
    """OpenVINO's CPU device, through ONNX Runtime's plugin."""

    name = "openvino"
    device = "CPU, OpenVINO"
    max_batch = 2

    def unavailable(self, bundle: Bundle) -> str | None:
        """Only the packages can be missing; the plugin is published for x86-64 alone."""
        try:
            import onnxruntime  # noqa: F401
            import onnxruntime_ep_openvino  # noqa: F401
        except ImportError as error:
            return (
                f"the package {error.name} is not installed; run: "
                "pip install 'fracture-sd[cpu]' (x86-64 only)"
            )
        return None

    def limits(self, bundle: Bundle) -> Limits:
        """What the graphs were exported for."""
        return fixed_limits(bundle.manifest)

    def open_session(self, bundle: Bundle, component: str) -> Session:
        """Load one component; no node of it may fall back to another provider.

        OpenVINO runs the UNet in two thirds of the time where its sizes are fixed, and two
        entries after each other about as fast as both together, so that and the VAE are compiled
        for one entry of the sizes that they are fed. The text encoder gains nothing.
        """
        if component == layout.TEXT_ENCODER:
            return _compile(bundle, component, {})
        spec = bundle.component(component)
        compiled = FixedSizesSession(spec, functools.partial(_compile, bundle, component))
        return open_to_any_batch(compiled, component, spec, most=1)


def _compile(bundle: Bundle, component: str, sizes: Mapping[str, int]) -> Session:
    """Load a component's graph with these sizes of its dynamic axes, the others left open."""
    import onnxruntime

    from engines.backends.ort import OrtSession

    with _REGISTERING:
        devices = _devices()

    def configure(options: onnxruntime.SessionOptions) -> None:
        for axis, size in sizes.items():
            options.add_free_dimension_override_by_name(axis, size)
        options.add_provider_for_devices(devices, {})
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")

    graph = bundle.openvino_graph(component)
    return OrtSession(bundle.component(component), graph, PROVIDER, configure)


@functools.cache
def _devices() -> list[object]:
    """Register the plugin with ONNX Runtime, once a process, and list its CPU devices."""
    import onnxruntime
    import onnxruntime_ep_openvino

    library = onnxruntime_ep_openvino.get_library_path()
    onnxruntime.register_execution_provider_library("openvino", library)
    devices = [
        device
        for device in onnxruntime.get_ep_devices()
        if device.ep_name == PROVIDER and device.device.type.name == "CPU"
    ]
    if not devices:
        raise BackendError(f"The OpenVINO plugin {library} offers no CPU device here.")
    return devices


BACKEND: Final[Backend] = OpenVinoBackend()
