"""plans.json: the TensorRT plans of a bundle for some GPUs, and what they were built from."""

import platform
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engines import layout
from engines.errors import BundleError
from engines.identity import identity_of
from engines.manifest import Manifest
from engines.records import RecordFile

TENSORRT = "tensorrt"
"""Data-centre and Jetson: built on the GPU that the plans are for."""

TENSORRT_RTX = "tensorrt-rtx"
"""RTX cards: built ahead of time, on any machine, for several architectures at once."""

PLAN_BACKENDS = (TENSORRT, TENSORRT_RTX)


@dataclass(frozen=True)
class ShapeRange:
    """The shapes that one input may have: smallest, the one tuned for, largest."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    def holds(self, shape: Sequence[int]) -> bool:
        """Whether an input of this shape may be fed."""
        return len(shape) == len(self.min) and all(
            least <= size <= most
            for least, size, most in zip(self.min, shape, self.max, strict=True)
        )


Profile = dict[str, ShapeRange]
"""One optimisation profile: the range of every input, by its name."""


@dataclass(frozen=True)
class Plan:
    """One serialised engine.

    `file` is its name inside the set's directory. `graph_identity` is what `graph_identity`
    returned for the component when it was built. `profiles` are in TensorRT's order. A stripped
    plan has no weights: before it can run it is refitted from the bundle's own ONNX graph.
    """

    file: str
    size: int
    sha256: str
    graph_identity: str
    stripped: bool
    profiles: tuple[Profile, ...]


@dataclass(frozen=True)
class PlanSet:
    """The content of plans.json.

    `targets` are GPU architectures (`sm89`), ascending; every plan runs on each of them. `gpu` is
    the name of the GPU that it was built on, empty where it was built without one.
    `hardware_compatibility` is `none`, `same-compute-capability` or `ampere-plus`. `system` is as
    `system_name` has it. `identity` is the hash of graphs, options, library and targets;
    `options` are all of the build's settings, `arguments` the command line's, after the bundle.
    """

    backend: str
    targets: tuple[str, ...]
    library_version: str
    system: str
    gpu: str
    hardware_compatibility: str
    identity: str
    options: dict[str, Any]
    arguments: tuple[str, ...]
    components: dict[str, Plan]
    revision: int = layout.PLANS_REVISION

    def serves(self, target: str) -> bool:
        """Whether the plans run on the architecture `target`, such as `sm89`."""
        if target in self.targets:
            return True
        return self.hardware_compatibility == "ampere-plus" and capability(target) >= (8, 0)


def capability(target: str) -> tuple[int, int]:
    """The compute capability of an architecture: (8, 9) of `sm89`.

    Raises:
        ValueError: it is not written so.
    """
    if not target.startswith("sm") or not target[2:].isdecimal() or len(target) < 4:
        raise ValueError(target)
    return int(target[2:-1]), int(target[-1])


def target_name(major: int, minor: int) -> str:
    """The architecture of a compute capability: `sm89` of 8.9."""
    return f"sm{major}{minor}"


def system_name() -> str:
    """Where plans built here can run: `linux-x86_64`, for instance."""
    return f"{platform.system().lower()}-{platform.machine().lower()}"


def graph_identity(manifest: Manifest, component: str) -> str:
    """The hash of a component's graph and weights, from the bundle's list of files."""
    start = f"{component}/{layout.GRAPH_FILE}"
    files = {name: e.sha256 for name, e in manifest.files.items() if name.startswith(start)}
    return identity_of(files)


def build_command(bundle: Path, arguments: Sequence[str]) -> str:
    """The command that builds plans, as it is typed."""
    return shlex.join(["convert", "build", str(bundle), *arguments])


def _name_faults(plans: PlanSet) -> Iterator[str]:
    """What leads out of the directory, and architectures that are none."""
    for name, plan in plans.components.items():
        if name not in layout.COMPONENTS:
            yield f"components.{name} is unknown"
        if plan.file in ("", ".", "..") or Path(plan.file).name != plan.file:
            yield f"components.{name}.file has the unexpected value {plan.file!r}"
    for i, target in enumerate(plans.targets):
        try:
            capability(target)
        except ValueError:
            yield f"targets[{i}] has the unexpected value {target!r}"


_FILE: Final = RecordFile(
    PlanSet,
    layout.PLANS_REVISION,
    BundleError,
    marks="a set of plans",
    make="Build one with `convert build`.",
    remake="Build the plans again",
    faults=_name_faults,
)


def write_plans(plans: PlanSet, path: Path) -> None:
    """Write plans.json; the caller publishes the directory."""
    _FILE.write(plans, path)


def read_plans(path: Path) -> PlanSet:
    """Read plans.json, whatever bundle it belongs to.

    Raises:
        BundleError: it is missing, is not JSON, is of another revision, or a field is missing,
            unknown or of the wrong type; or a name leads out of the directory, or a target is no
            architecture.
    """
    return _FILE.read(path)
