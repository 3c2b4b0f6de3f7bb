"""`convert fuse`: merge LoRAs into a base model."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from convert.block_weights import BLOCKS, check_block_weights
from convert.export_options import DTYPES
from convert.fuse_record import FuseRecord, RankRecord
from convert.imports import importing_torch
from convert.measure import measured
from convert.recipe import DEFAULT, Recipe, RecipeLora, load_recipe
from convert.sources import source_name
from engines import layout
from engines.console import Result, add_common_arguments
from engines.errors import MissingExtraError, SettingError
from engines.publish import check_replaceable

_OWN_RECIPE: Final = "custom"
_SHOWN_TAGS: Final = 8
_EVERY_BLOCK: Final = "all"

_DESCRIPTION: Final = (
    "Add LoRAs to a base model of the Stable Diffusion 1.x family and write the result as a "
    "diffusers directory with a fuse.json that says what it was made from."
)
_EPILOG: Final = (
    "Without --recipe, the recipe is cracked-skin; --base and --lora replace its parts, and where "
    "both are given nothing of it is left: the LoRAs then need --weights. Write "
    "--weights=-0.3,0.6 where the first weight is negative."
)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = commands.add_parser(
        "fuse", help="merge LoRAs into a base model", description=_DESCRIPTION, epilog=_EPILOG
    )
    parser.add_argument("--recipe", metavar="NAME|FILE", help="a shipped recipe or a .toml file")
    parser.add_argument(
        "--base",
        metavar="PATH|HUB_ID|URL",
        help="a checkpoint file, a diffusers directory, or owner/name on the hub",
    )
    parser.add_argument(
        "--lora",
        action="append",
        metavar="PATH|URL",
        help="a LoRA file; once for each, in the recipe's order",
    )
    add_lora_arguments(parser)
    parser.add_argument(
        "--vae",
        type=Path,
        metavar="PATH",
        help="file or diffusers directory of a VAE that replaces the base's",
    )
    parser.add_argument(
        "--dtype", choices=DTYPES, help="of the output (default: each tensor as in the base)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: bundles/<recipe>-fused")
    parser.add_argument("--force", action="store_true", help="replace an older fused model")
    add_common_arguments(parser)
    parser.set_defaults(command=run)


def add_lora_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say how LoRAs enter, which `convert all` has too."""
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
    parser.add_argument(
        "--block-weights",
        action="append",
        type=parse_block_weights,
        metavar="W,...,W",
        help="17 factors for the text encoder and the UNet's blocks, as the webui's LoRA Block "
        "Weight has them (BASE,IN01,IN02,IN04,IN05,IN07,IN08,MID,OUT03,...,OUT11), or `all`; once "
        "for each LoRA, in the recipe's order (default: the recipe's)",
    )
    parser.add_argument(
        "--allow-unmatched",
        action="store_true",
        help="leave out a LoRA's keys that match nothing in the base, and record them",
    )


def parse_block_weights(text: str) -> tuple[float, ...]:
    """The seventeen numbers in a comma-separated list, or none for `all`, for argparse."""
    if text.strip().lower() == _EVERY_BLOCK:
        return ()
    weights = tuple(parse_weights(text))
    fault = check_block_weights(weights)
    if fault:
        raise argparse.ArgumentTypeError(f"{text!r} are {fault}")
    return weights


def parse_weights(text: str) -> list[float]:
    """The numbers in a comma-separated list, for argparse."""
    try:
        return [float(item) for item in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of numbers such as 0.6,0.6"
        ) from None


def run(options: argparse.Namespace) -> Result:
    """Plan and run a fuse."""
    recipe = choose_recipe(options.recipe, options.base, options.lora, options.weights)
    recipe = with_block_weights(recipe, options.block_weights)
    out = options.out or Path("bundles") / f"{recipe.name}-fused"
    check_replaceable(out, force=options.force, marker=layout.FUSE_FILE)
    with measured() as spent:
        try:
            from convert.fuse_plan import KEEP_DTYPE, plan_fuse

            plan = plan_fuse(
                recipe,
                options.weights,
                options.text_encoder_weights,
                dtype=options.dtype or KEEP_DTYPE,
                vae=options.vae,
                allow_unmatched=options.allow_unmatched,
                progress=not options.quiet,
            )
            # torch takes a second, in which the plan's hashing is well under way.
            with importing_torch():
                from convert.fuse import run_fuse
        except ImportError as error:
            raise MissingExtraError(str(error.name), "convert", "convert fuse") from error
        record = run_fuse(plan, out, force=options.force, progress=not options.quiet)
    return Result(
        text="\n".join([*describe(record), f"{out}: {spent}"]),
        value={
            "out": str(out),
            "seconds": round(spent.seconds, 3),
            "peak_bytes": spent.peak_bytes,
            "record": asdict(record),
        },
    )


def choose_recipe(
    name: str | None, base: str | None, loras: list[str] | None, weights: list[float] | None
) -> Recipe:
    """The recipe with the base and LoRAs of the command line in the place of its own.

    Raises:
        SettingError: there is no such recipe, or weights are needed and not given.
        InputError: the recipe's file is missing or wrong.
    """
    if name is None and base is not None and loras is not None:
        recipe = Recipe(_OWN_RECIPE, base, ())
    else:
        recipe = load_recipe(name or DEFAULT)
    if base is not None:
        recipe = replace(recipe, base=base)
    if loras is None:
        return recipe
    if weights is None and len(loras) != len(recipe.loras):
        raise SettingError(
            f"--weights is needed: there are {len(loras)} LoRAs, and the recipe {recipe.name} "
            f"has weights for {len(recipe.loras)}."
        )
    return replace(recipe, loras=_replace_loras(loras, recipe.loras))


def with_block_weights(recipe: Recipe, weights: Sequence[tuple[float, ...]] | None) -> Recipe:
    """The recipe with these block weights in the place of its own, where any are given.

    Raises:
        SettingError: there are not as many as LoRAs.
    """
    if weights is None:
        return recipe
    if len(weights) != len(recipe.loras):
        order = ", ".join(lora.name for lora in recipe.loras) or "none"
        raise SettingError(
            f"--block-weights was given {len(weights)} times, and there are {len(recipe.loras)} "
            f"LoRAs. Give it once for each, or `{_EVERY_BLOCK}`, in this order: {order}."
        )
    loras = zip(recipe.loras, weights, strict=True)
    return replace(
        recipe, loras=tuple(replace(lora, block_weights=weights) for lora, weights in loras)
    )


def _replace_loras(sources: list[str], known: tuple[RecipeLora, ...]) -> tuple[RecipeLora, ...]:
    """LoRAs named by their files, with the recipe's weights and hashes where it has as many."""
    names = [source_name(source) for source in sources]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise SettingError(f"Two LoRA files are named {', '.join(sorted(repeated))}; rename one.")
    if len(sources) != len(known):
        return tuple(RecipeLora(n, source, 1.0) for n, source in zip(names, sources, strict=True))
    return tuple(
        replace(lora, name=name, source=source, file="")
        for lora, name, source in zip(known, names, sources, strict=True)
    )


def describe(record: FuseRecord) -> list[str]:
    """What was fused, for people: a line for each LoRA and its trained tags."""
    lines = [f"{record.recipe}: {record.base.name} and {len(record.loras)} LoRAs"]
    for lora in record.loras:
        covered = ", ".join(
            f"{part} {coverage.touched} of {coverage.layers} layers"
            for part, coverage in lora.coverage.items()
        )
        kinds = ", ".join(dict.fromkeys(describe_rank(row) for row in lora.ranks))
        weight = f"{lora.weight:g}"
        if lora.text_encoder_weight != lora.weight:
            weight += f" (text encoder {lora.text_encoder_weight:g})"
        lines.append(f"  {lora.name} [{lora.autov2}] at {weight}, {kinds}: {covered}")
        if lora.block_weights:
            blocks = zip(BLOCKS, lora.block_weights, strict=True)
            lines.append(f"    blocks: {' '.join(f'{name}={w:g}' for name, w in blocks)}")
        if lora.unmatched:
            lines.append(f"    left out: {len(lora.unmatched)} keys, as {lora.unmatched[0][:200]}")
        tags = [f"{tag} ({count})" for tag, count in lora.trained_tags.items()]
        if tags:
            more = f" and {len(tags) - _SHOWN_TAGS} more" if len(tags) > _SHOWN_TAGS else ""
            lines.append(f"    trained tags: {', '.join(tags[:_SHOWN_TAGS])}{more}")
    return lines


def describe_rank(row: RankRecord) -> str:
    """A kind of module for people: its name, and rank and alpha where it has them."""
    if row.rank is None:
        return row.kind
    alpha = "unreadable" if row.alpha is None else f"{row.alpha:g}"
    return f"{row.kind} of rank {row.rank}, alpha {alpha}"
