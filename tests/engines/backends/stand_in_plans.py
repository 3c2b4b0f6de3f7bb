"""Sets of stand-in plans in a bundle, and backends that run them."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engines import layout
from engines.backends.trt import TensorRtBackend
from engines.bundle import Bundle
from engines.cuda_driver import Driver, Gpu
from engines.plans import (
    Plan,
    PlanSet,
    Profile,
    ShapeRange,
    graph_identity,
    system_name,
    write_plans,
)
from engines.session import Array, Session
from tests.engines.backends.stand_in_cuda import StandInCuda
from tests.engines.backends.stand_in_tensorrt import StandInTensorRt, plan_text
from tests.engines.backends.tiny_bundle import expected

VERSION = "11.4.0"
DRIVER = Driver((13, 0), (Gpu("NVIDIA Stand-in 4090", (8, 9), 24 << 30),))
MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}

Ranges = Mapping[str, tuple[int, int, int]]
"""For each axis of the layout the least, usual and greatest size."""

ANY_SIZE: Ranges = {
    "batch": (1, 2, 8),
    "height": (8, 16, 32),
    "width": (8, 16, 32),
    "picture_height": (64, 128, 256),
    "picture_width": (64, 128, 256),
    "tokens": (77, 77, 308),
}
NARROW: Ranges = {
    **ANY_SIZE,
    "height": (16, 16, 16),
    "width": (16, 16, 16),
    "batch": (1, 2, 16),
}


def make_profile(bundle: Bundle, component: str, ranges: Ranges) -> Profile:
    """The profile of a component's inputs with these ranges of its axes."""
    declared = layout.COMPONENTS[component].inputs
    profile = {}
    for tensor in bundle.component(component).inputs:
        ends = [
            tuple(
                ranges[axis][end] if isinstance(axis, str) else int(size)
                for axis, size in zip(declared[tensor.name], tensor.shape, strict=True)
            )
            for end in range(3)
        ]
        profile[tensor.name] = ShapeRange(*ends)
    return profile


def add_plans(
    bundle: Bundle,
    backend: str,
    *ranges: Ranges,
    options: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | None = None,
    **plan: Any,
) -> Path:
    """Write a set of plans for sm89 into the bundle.

    Args:
        bundle: where.
        backend: for which.
        ranges: of each profile; by default one, `ANY_SIZE`.
        options: the build's, in plans.json.
        changes: other fields of plans.json.
        plan: passed on to `plan_text`.
    """
    path = bundle.path / layout.engine_directory(backend, ["sm89"])
    path.mkdir(parents=True, exist_ok=True)
    components = {}
    for name in bundle.manifest.components:
        profiles = tuple(make_profile(bundle, name, each) for each in ranges or (ANY_SIZE,))
        content = plan_text(bundle.graph(name), profiles, **plan)
        file = path / layout.plan_file(name)
        file.write_bytes(content)
        components[name] = Plan(
            file.name,
            len(content),
            hashlib.sha256(content).hexdigest(),
            graph_identity(bundle.manifest, name),
            bool(plan.get("stripped")),
            profiles,
        )
    plans = PlanSet(
        backend=backend,
        targets=("sm89",),
        library_version=VERSION,
        system=system_name(),
        gpu="",
        hardware_compatibility="none",
        identity="0" * 64,
        options=dict(options or {}),
        arguments=("--backend", backend, "--target", "sm89"),
        components=components,
    )
    write_plans(dataclasses.replace(plans, **(changes or {})), path / layout.PLANS_FILE)
    return path


class StandInMachine:
    """A stand-in GPU with both TensorRT libraries, and the backends that use them."""

    def __init__(self, memory: int = 24 << 30, driver: Driver = DRIVER) -> None:
        self.cuda = StandInCuda(memory)
        self.driver = driver
        self.modules = {
            name: StandInTensorRt(self.cuda, VERSION, for_rtx=name == "tensorrt_rtx")
            for name in MODULES.values()
        }

    def backend(self, name: str, *, graphs: bool = True) -> TensorRtBackend:
        """The backend `name` on this machine."""
        return TensorRtBackend(
            name,
            MODULES[name],
            graphs=graphs,
            driver=lambda: self.driver,
            cuda=lambda: self.cuda,
            library=self.modules.__getitem__,
        )


def open_unet(machine: StandInMachine, bundle: Bundle, backend: str = "tensorrt") -> Session:
    """Add plans of two profiles to the bundle and open its UNet."""
    add_plans(bundle, backend, NARROW, ANY_SIZE)
    return machine.backend(backend).open_session(bundle, layout.UNET)


def run_and_compare(session: Session, inputs: dict[str, Array]) -> None:
    """Run a tiny UNet and see that it computes what it should."""
    np.testing.assert_allclose(
        session.run(inputs)["out_sample"], expected(inputs), rtol=1e-5, atol=1e-6
    )
