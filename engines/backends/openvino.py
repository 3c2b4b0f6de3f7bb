"""OpenVINO: the fast path on x86-64 CPUs, in bfloat16 where the CPU has instructions for it."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from engines import layout
from engines.any_batch import open_to_any_batch
from engines.axes import Limits, fixed_limits
from engines.backend import Backend
from engines.backends.fixed_sizes import FixedSizesSession
from engines.backends.openvino_library import import_library
from engines.backends.packages import import_fault
from engines.bundle import Bundle
from engines.session import Session

DEVICE: Final = "CPU"


class OpenVinoBackend:
    """OpenVINO's CPU device."""

    name = "openvino"
    device = "CPU, OpenVINO"
    max_batch = 2

    def unavailable(self, bundle: Bundle) -> str | None:
        """The package can be missing, or its library for this CPU not load."""
        try:
            devices = import_library().Core().available_devices
        except ImportError as error:
            return import_fault(error, "pip install 'fracture-sd[cpu]' (x86-64 only)")
        return None if DEVICE in devices else "OpenVINO finds no CPU that it can use here"

    def limits(self, bundle: Bundle) -> Limits:
        """What the graphs were exported for."""
        return fixed_limits(bundle.manifest)

    def open_session(self, bundle: Bundle, component: str) -> Session:
        """Load one component.

        OpenVINO runs the UNet in two thirds of the time where its sizes are fixed, and two
        entries after each other about as fast as both together, so that and the VAE are compiled
        for one entry of the sizes that they are fed. The text encoder gains nothing.
        """
        compile_for = functools.partial(_compile, bundle, component)
        if component == layout.TEXT_ENCODER:
            return compile_for({})
        spec = bundle.component(component)
        return open_to_any_batch(FixedSizesSession(spec, compile_for), component, spec, most=1)


@functools.cache
def has_amx() -> bool:
    """Whether the CPU has AMX's tiles of bfloat16, as Linux lists its flags.

    Its kernels want the arrangement of `convert.openvino_graph`. To other CPUs the zeros in it are
    work: it costs them a twentieth.
    """
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and "amx_bf16" in flags.read_text()


def _compile(bundle: Bundle, component: str, sizes: Mapping[str, int]) -> Session:
    """Load a component's graph with these sizes of its dynamic axes, the others left open."""
    from engines.backends.openvino_session import OpenVinoSession

    graph = bundle.openvino_graph(component) if has_amx() else bundle.graph(component)
    return OpenVinoSession(bundle.component(component), graph, DEVICE, sizes)


BACKEND: Final[Backend] = OpenVinoBackend()
