"""Building a bundle's plans and putting them beside its graphs."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from convert.hashing import find_changed, hash_files
from convert.measure import Measurement
from convert.plans.engine import PlanTask
from convert.plans.job import BuildJob, describe_plan
from convert.plans.worker import build_apart
from engines import layout
from engines.errors import BundleError
from engines.plans import Plan, PlanSet, write_plans
from engines.publish import exclusive, publish_directory

_log = logging.getLogger(__name__)


def ensure_plans(
    job: BuildJob, *, force: bool = False, progress: bool = True
) -> tuple[PlanSet, dict[str, Measurement]]:
    """Build every plan unless the bundle has the very same already.

    Another process that builds for the same targets is waited for.

    Args:
        job: what `plan_build` returned.
        force: whether to build in any case.
        progress: whether to show progress bars on stderr.

    Returns:
        The content of plans.json, and what each plan cost: nothing where none was built.

    Raises:
        UserError: as `run_build` does.
    """
    with exclusive(job.directory):
        there = None if force else job.find_fulfilled(progress=progress)
        return (there, {}) if there else run_build(job, progress=progress)


def run_build(job: BuildJob, *, progress: bool = True) -> tuple[PlanSet, dict[str, Measurement]]:
    """Build every plan and publish them together; older ones for the same targets go.

    Args:
        job: what `plan_build` returned.
        progress: whether to show a progress bar on stderr.

    Returns:
        The content of plans.json, and what each plan cost.

    Raises:
        BundleError: a graph is not the one that was exported.
        BackendError: TensorRT cannot build a plan; the error says which node or range, and why.
        OutputError: the plans cannot be written.
    """
    _check_graphs(job, progress=progress)
    _say_dtypes(job)
    plans: dict[str, Plan] = {}
    costs: dict[str, Measurement] = {}
    with publish_directory(job.directory, force=True, marker=layout.PLANS_FILE) as partial:
        for component in job.profiles:
            file = partial / layout.plan_file(component)
            costs[component] = _build_plan(job, component, file, progress=progress)
            sha256 = hash_files({component: file}, progress=progress)[component]
            plans[component] = describe_plan(job, component, file, sha256)
            _log.info("%s: %.0f MB, %s", component, plans[component].size / 1e6, costs[component])
        content = replace(job.content, components=plans)
        write_plans(content, partial / layout.PLANS_FILE)
    return content, costs


def _build_plan(job: BuildJob, component: str, file: Path, *, progress: bool) -> Measurement:
    task = PlanTask(
        module=job.module,
        backend=job.content.backend,
        component=component,
        graph=job.bundle.graph(component),
        out=file,
        profiles=job.profiles[component],
        options=job.options,
        rtx_targets=job.rtx_targets,
        timing_cache=job.timing_cache,
    )
    with tqdm(
        total=1.0,
        desc=f"build {component}",
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}",
        leave=False,
        disable=not progress,
    ) as bar:
        return build_apart(
            task, _advance(bar), lambda text: _log.warning("%s: %s", component, text)
        )


def _advance(bar: "tqdm[None]") -> Callable[[float | None, str], None]:
    def advance(done: float | None, phase: str) -> None:
        if done is None:
            bar.refresh()
            return
        bar.set_postfix_str(phase, refresh=False)
        bar.update(done - bar.n)

    return advance


def _check_graphs(job: BuildJob, *, progress: bool) -> None:
    """The graphs on disk are those that plans.json will name."""
    manifest = job.bundle.manifest
    files = {
        name: entry
        for component in job.profiles
        for name, entry in manifest.files.items()
        if name.startswith(f"{component}/{layout.GRAPH_FILE}")
    }
    changed = find_changed(job.bundle.path, files, progress=progress)
    if changed:
        faults = "; ".join(f"{name} {fault}" for name, fault in changed.items())
        raise BundleError(
            f"The bundle {job.bundle.path} is damaged: {faults}. Export it again before building."
        )


def _say_dtypes(job: BuildJob) -> None:
    """Plans have the dtype of their graph, and no other."""
    slow = [name for name in job.profiles if job.bundle.component(name).dtype == "float32"]
    if slow:
        _log.warning(
            "%s: float32 in the bundle, and so in the plans; export with --dtype fp16 for half the "
            "size and the use of tensor cores in half precision",
            ", ".join(slow),
        )
