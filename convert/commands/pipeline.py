"""`convert all`: from a recipe to a verified bundle."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Final

from convert.commands.export import describe_dtype_reasons
from convert.commands.export_arguments import (
    add_embedding_argument,
    add_export_arguments,
    merge_export_arguments,
)
from convert.commands.fuse import add_lora_arguments, parse_weights, with_block_weights
from convert.commands.verify import add_pictures_argument, describe_parity, fused_sibling
from convert.recipe import DEFAULT, load_recipe
from engines.console import Result, add_common_arguments
from engines.errors import MissingExtraError

_DESCRIPTION: Final = (
    "Fuse, export and verify what a recipe names. A stage is skipped when its output was made from "
    "the same content by the same tools; otherwise its output is made anew and replaced."
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
    parser.add_argument(
        "--weights",
        type=parse_weights,
        metavar="W,W",
        help="one weight for each LoRA (default: the recipe's)",
    )
    parser.add_argument(
        "--text-encoder-weights",
        type=parse_weights,
        metavar="W,W",
        help="other weights for the text encoder (default: the same)",
    )
    add_lora_arguments(parser)
    add_export_arguments(parser, otherwise="the recipe's")
    add_embedding_argument(parser, otherwise="the recipe's")
    add_pictures_argument(parser)
    add_common_arguments(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> Result:
    """Run the chain."""
    recipe = with_block_weights(load_recipe(options.recipe), options.block_weights)
    try:
        from convert.parity import has_passed
        from convert.stages import run_stages
    except ImportError as error:
        raise MissingExtraError(str(error.name), "convert", "convert all") from error
    fused = fused_sibling(options.out)
    manifest, reports = run_stages(
        recipe,
        options.out,
        fused,
        weights=options.weights,
        text_encoder_weights=options.text_encoder_weights,
        export=merge_export_arguments(options, recipe.export),
        embeddings=options.embedding,
        pictures=options.pictures,
        allow_unmatched=options.allow_unmatched,
        progress=not options.quiet,
    )
    lines = [
        f"  {report.name}: {'up to date' if report.skipped else report.cost}" for report in reports
    ]
    passed = has_passed(manifest)
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
