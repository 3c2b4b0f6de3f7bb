"""plans.json: the TensorRT plans of a bundle for some GPUs, and what they were built from.

A set of plans lies in a directory of its own, `engines/<backend>-<targets>/`. One set may serve
several GPU architectures. Whether it still belongs to the bundle is decided by content: every plan
names the hash of the graph that it was built from.
"""

import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engines import layout
from engines.bundle import Bundle
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


@dataclass(frozen=True)
class FoundPlans:
    """A set that lies in a bundle; `fault` says why it cannot be used, empty where it can.

    `content` is None where plans.json cannot be read.
    """

    path: Path
    content: PlanSet | None
    fault: str


@dataclass(frozen=True)
class OpenPlans:
    """A set whose plans are all there and belong to the bundle's graphs."""

    path: Path
    content: PlanSet

    def file(self, component: str) -> Path:
        """The path of a component's plan.

        Raises:
            BundleError: the set has no plan of it.
        """
        if component not in self.content.components:
            raise BundleError(f"{self.path} has no plan of {component}.")
        return self.path / self.content.components[component].file


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


_FILE: Final = RecordFile(
    PlanSet,
    layout.PLANS_REVISION,
    BundleError,
    marks="a set of plans",
    make="Build one with `convert build`.",
    remake="Build the plans again",
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
    plans = _FILE.read(path)
    faults = "; ".join(_name_faults(plans))
    if faults:
        raise BundleError(f"{path}: {faults}. Build the plans again.")
    return plans


def find_plans(bundle: Bundle) -> list[FoundPlans]:
    """Every set of plans in a bundle, usable or not, by the names of their directories."""
    directory = bundle.path / layout.ENGINES_DIRECTORY
    if not directory.is_dir():
        return []
    return [
        _look(bundle, path)
        for path in sorted(directory.iterdir())
        if path.is_dir() and not path.name.startswith(".")
    ]


def open_plans(bundle: Bundle, backend: str, target: str) -> OpenPlans:
    """The set of plans for a backend and an architecture.

    Where several serve, usable ones come first, then those with the fewest targets.

    Args:
        bundle: the bundle that they lie in.
        backend: one of `PLAN_BACKENDS`.
        target: the GPU's architecture, such as `sm89`.

    Raises:
        BundleError: there is none, a plan is missing or truncated, or it was built from another
            graph than the one in the bundle. The error has the command that builds it.
    """
    found = find_plans(bundle)
    serving = [
        (bool(each.fault), len(each.content.targets), each.content, each)
        for each in found
        if each.content and each.content.backend == backend and each.content.serves(target)
    ]
    if not serving:
        raise BundleError(_nothing_found(bundle, backend, target, found))
    _, _, content, chosen = min(serving, key=lambda entry: entry[:2])
    if chosen.fault:
        raise BundleError(
            f"The plans {chosen.path} cannot be used: {chosen.fault}. "
            f"Run: {build_command(bundle.path, content.arguments)}"
        )
    return OpenPlans(chosen.path, content)


def _look(bundle: Bundle, path: Path) -> FoundPlans:
    try:
        content = read_plans(path / layout.PLANS_FILE)
    except BundleError as error:
        return FoundPlans(path, None, str(error).rstrip("."))
    return FoundPlans(path, content, "; ".join(_faults(bundle, path, content.components)))


def _faults(bundle: Bundle, path: Path, components: Mapping[str, Plan]) -> list[str]:
    missing = [name for name in bundle.manifest.components if name not in components]
    faults = [f"there is no plan of {name}" for name in missing]
    for name, plan in components.items():
        file = path / plan.file
        if not file.is_file():
            faults.append(f"{plan.file} is missing")
        elif file.stat().st_size != plan.size:
            faults.append(f"{plan.file} has {file.stat().st_size} bytes instead of {plan.size}")
        if plan.graph_identity != graph_identity(bundle.manifest, name):
            faults.append(f"{plan.file} was built from another graph than the bundle's {name}")
    return faults


def _nothing_found(bundle: Bundle, backend: str, target: str, found: Sequence[FoundPlans]) -> str:
    there = [f"{each.path.name} ({each.fault})" if each.fault else each.path.name for each in found]
    command = build_command(bundle.path, ["--backend", backend, "--target", target])
    return (
        f"{bundle.path} has no plans of {backend} for {target}; there: "
        f"{', '.join(there) or 'none at all'}. Run: {command}"
    )


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
