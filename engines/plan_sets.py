"""Which sets of TensorRT plans lie in a bundle, and which one serves a GPU.

A set lies in a directory of its own, `engines/<backend>-<targets>/`. One set may serve several GPU
architectures. Whether it still belongs to the bundle is decided by content: every plan names the
hash of the graph that it was built from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines import layout
from engines.bundle import Bundle
from engines.errors import BundleError
from engines.plans import Plan, PlanSet, build_command, graph_identity, read_plans


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
