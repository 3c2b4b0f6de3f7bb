"""`convert all`: from a recipe to a verified bundle."""

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from convert.commands.build_arguments import add_backend_arguments, backend_arguments
from convert.commands.export import describe_dtype_reasons
from convert.commands.export_arguments import (
    add_embedding_argument,
    add_export_arguments,
    merge_export_arguments,
)
from convert.commands.fuse import add_lora_arguments, with_block_weights
from convert.commands.verify import add_pictures_argument, describe_parity
from convert.fuse_record import fused_sibling
from convert.measure import measured
from convert.plans.job import check_buildable, plan_build
from convert.plans.options import BuildOptions
from convert.plans.ranges import default_ranges
from convert.recipe import DEFAULT, load_recipe
from engines.bundle import open_bundle
from engines.console import Result, add_common_arguments
from engines.errors import MissingExtraError, SettingError

if TYPE_CHECKING:
    from convert.stages import StageReport

_DESCRIPTION: Final = (
    "Fuse, export and verify what a recipe names and, with --backend, build its TensorRT plans as "
    "convert build does by default. A stage is skipped when its output was made from the same "
    "content by the same tools; otherwise its output is made anew and replaced."
)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = commands.add_parser(
        "all", help="every stage from a recipe to a bundle", description=_DESCRIPTION
    )
    parser.add_argument(
        "--recipe",
        default=DEFAULT,
        metavar="NAME|FILE",
        help="a shipped recipe or a .toml file (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="BUNDLE",
        help="the bundle; the fused model is kept beside it, as BUNDLE.fused",
    )
    add_lora_arguments(parser)
    add_export_arguments(parser, otherwise="the recipe's")
    add_embedding_argument(parser, otherwise="the recipe's")
    add_pictures_argument(parser)
    add_backend_arguments(parser, required=False)
    add_common_arguments(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> Result:
    """Run the chain."""
    recipe = load_recipe(options.recipe)
    recipe = replace(
        with_block_weights(recipe, options.block_weights),
        export=merge_export_arguments(options, recipe.export),
        embeddings=recipe.embeddings if options.embedding is None else tuple(options.embedding),
    )
    try:
        from convert.parity import has_passed
        from convert.stages import run_stages
    except ImportError as error:
        raise MissingExtraError(str(error.name), "convert", "convert all") from error
    if options.backend:
        check_buildable(options.backend, options.target)
    elif options.target:
        raise SettingError("--target says nothing without --backend: add it, or leave both out.")
    fused = fused_sibling(options.out)
    manifest, reports = run_stages(
        recipe,
        options.out,
        fused,
        weights=options.weights,
        text_encoder_weights=options.text_encoder_weights,
        pictures=options.pictures,
        allow_unmatched=options.allow_unmatched,
        progress=not options.quiet,
    )
    passed = has_passed(manifest)
    if options.backend and passed:
        reports.append(_build(options))
    lines = [
        f"  {report.name}: {'up to date' if report.skipped else report.cost}" for report in reports
    ]
    return Result(
        text="\n".join(
            [
                *lines,
                *describe_dtype_reasons(manifest),
                *describe_parity(manifest),
                str(options.out),
            ]
        ),
        value={
            "out": str(options.out),
            "fused": str(fused),
            "identity": manifest.identity,
            "passed": passed,
            "stages": {
                report.name: {"skipped": report.skipped, **asdict(report.cost)}
                for report in reports
            },
        },
        passed=passed,
    )


def _build(options: argparse.Namespace) -> "StageReport":
    from convert.plans.build import ensure_plans
    from convert.stages import StageReport

    bundle = open_bundle(options.out)
    with measured() as cost:
        job = plan_build(
            bundle,
            options.backend,
            options.target,
            default_ranges(bundle.manifest),
            BuildOptions(),
            backend_arguments(options),
        )
        _, costs = ensure_plans(job, progress=not options.quiet)
    cost.peak_bytes = max([cost.peak_bytes, *(plan.peak_bytes for plan in costs.values())])
    return StageReport("build", not costs, cost)
