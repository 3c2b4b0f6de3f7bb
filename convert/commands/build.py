"""`convert build`: TensorRT plans of a bundle."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from convert.commands.build_arguments import (
    add_backend_arguments,
    add_build_arguments,
    build_options,
    build_ranges,
    command_arguments,
)
from convert.measure import Measurement
from engines.bundle import open_bundle
from engines.console import Result, add_common_arguments
from engines.plans import PlanSet

_DESCRIPTION: Final = (
    "Build TensorRT plans of all four graphs of a bundle, and keep them inside it together with a "
    "plans.json that says what they were built from. Nothing is built where the same plans are "
    "there already. See docs/tensorrt.md."
)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = commands.add_parser(
        "build", help="build a bundle's TensorRT plans", description=_DESCRIPTION
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    add_backend_arguments(parser, required=True)
    add_build_arguments(parser)
    parser.add_argument("--force", action="store_true", help="build even what is up to date")
    add_common_arguments(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> Result:
    """Plan a build, and run it unless its plans are there."""
    from convert.plans.build import ensure_plans
    from convert.plans.job import plan_build

    bundle = open_bundle(options.bundle)
    job = plan_build(
        bundle,
        options.backend,
        options.target,
        build_ranges(options, bundle.manifest),
        build_options(options),
        command_arguments(options),
    )
    content, costs = ensure_plans(job, force=options.force, progress=not options.quiet)
    return _result(job.directory, content, costs)


def _result(directory: Path, content: PlanSet, costs: Mapping[str, Measurement]) -> Result:
    skipped = not costs
    size = sum(plan.size for plan in content.components.values())
    seconds = sum(cost.seconds for cost in costs.values())
    peak = max((cost.peak_bytes for cost in costs.values()), default=0)
    lines = [
        f"  {name}: {content.components[name].size / 1e6:.0f} MB, {cost}"
        for name, cost in costs.items()
    ]
    done = "up to date" if skipped else str(Measurement(seconds, peak))
    targets = ", ".join(content.targets)
    return Result(
        text="\n".join([*lines, f"{directory} for {targets}: {size / 1e6:.0f} MB, {done}"]),
        value={
            "out": str(directory),
            "backend": content.backend,
            "targets": list(content.targets),
            "identity": content.identity,
            "skipped": skipped,
            "bytes": size,
            "seconds": seconds,
            "peak_bytes": peak,
            "components": {
                name: {"bytes": plan.size, **(asdict(costs[name]) if name in costs else {})}
                for name, plan in content.components.items()
            },
        },
    )
