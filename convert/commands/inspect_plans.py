"""What `convert inspect` says of TensorRT plans."""

from dataclasses import asdict
from pathlib import Path
from typing import Final

from convert.plans.job import find_changed_plans
from convert.plans.ranges import describe_profile
from engines import layout
from engines.bundle import open_bundle
from engines.console import Result
from engines.errors import InputError
from engines.identity import Json, tool_versions
from engines.plan_sets import FoundPlans, find_plans
from engines.plans import PlanSet, read_plans

PLAN_SUFFIX: Final = ".plan"


def inspect_plan_set(directory: Path, *, progress: bool) -> Result:
    """Describe a set of plans, and compare it with the bundle that it lies in.

    Raises:
        BundleError: plans.json cannot be read, or the bundle around it is damaged.
    """
    plans = read_plans(directory / layout.PLANS_FILE)
    stale = _stale(directory, plans, progress=progress)
    lines = [f"{directory}: {describe_set(plans)}", *_provenance(plans)]
    for name, plan in plans.components.items():
        lines.append(f"  {name}: {plan.size / 1e6:.0f} MB{', stripped' if plan.stripped else ''}")
        lines += [f"    {describe_profile(profile)}" for profile in plan.profiles]
    value: dict[str, Json] = {"kind": "plans", "plans": asdict(plans), "stale": [*stale]}
    return Result("\n".join([*lines, *describe_staleness(stale)]), value)


def inspect_plan(file: Path, *, progress: bool) -> Result:
    """Describe one plan by the plans.json beside it.

    Raises:
        InputError: there is none, or it does not name this plan.
        BundleError: it cannot be read, or the bundle around it is damaged.
    """
    record = file.parent / layout.PLANS_FILE
    if not record.is_file():
        raise InputError(
            f"{file} may be a TensorRT plan, but there is no {layout.PLANS_FILE} beside it, and a "
            "plan does not say itself what it was built from."
        )
    plans = read_plans(record)
    name = next((n for n, plan in plans.components.items() if plan.file == file.name), None)
    if name is None:
        raise InputError(f"{record} knows nothing of {file.name}: it did not come with the others.")
    plan = plans.components[name]
    stale = _stale(file.parent, plans, progress=progress)
    lines = [f"{file}: the {name} of {describe_set(plans)}", f"  sha256 {plan.sha256}"]
    lines += [f"  {describe_profile(profile)}" for profile in plan.profiles]
    value: dict[str, Json] = {
        "kind": "plan",
        "component": name,
        "plan": asdict(plan),
        "identity": plans.identity,
        "stale": [*stale],
    }
    return Result("\n".join([*lines, *_provenance(plans), *describe_staleness(stale)]), value)


def describe_set(plans: PlanSet) -> str:
    """What a set of plans is, in some words."""
    return (
        f"plans of {plans.backend} {plans.library_version} for {', '.join(plans.targets)} on "
        f"{plans.system}"
    )


def describe_found(found: FoundPlans) -> str:
    """A line on a set in a bundle."""
    what = describe_set(found.content) if found.content else "plans that cannot be read"
    return f"  {found.path.name}: {what}{f'; stale: {found.fault}' if found.fault else ''}"


def describe_staleness(reasons: list[str]) -> list[str]:
    """Lines on whether an output would come out otherwise today."""
    if not reasons:
        return ["  up to date, as far as can be seen from here"]
    return [f"  stale: {reason}" for reason in reasons]


def _provenance(plans: PlanSet) -> list[str]:
    lines = [
        f"  identity {plans.identity[:10]}",
        f"  built with: convert build BUNDLE {' '.join(plans.arguments)}",
    ]
    if plans.gpu:
        lines.append(
            f"  built on {plans.gpu}, hardware compatibility {plans.hardware_compatibility}"
        )
    return lines


def _stale(directory: Path, plans: PlanSet, *, progress: bool) -> list[str]:
    changed = find_changed_plans(directory, plans, progress=progress)
    reasons = [f"{name} {fault}" for name, fault in changed.items()]
    here = tool_versions([plans.backend]).get(plans.backend, plans.library_version)
    if here != plans.library_version:
        reasons.append(f"it was built with {plans.backend} {plans.library_version}, here is {here}")
    bundle = directory.resolve().parents[1]
    if not (bundle / layout.BUNDLE_FILE).is_file():
        return [*reasons, f"it lies in no bundle: there is no {bundle / layout.BUNDLE_FILE}"]
    faults = [
        each.fault for each in find_plans(open_bundle(bundle)) if each.path.samefile(directory)
    ]
    return reasons + [fault for fault in faults if fault]
