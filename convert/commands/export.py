"""`convert export`: write a fused model as a bundle of ONNX graphs."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Final

from convert.measure import measured
from convert.recipe import DTYPES
from engines import layout
from engines.console import Result, add_common_arguments
from engines.errors import MissingExtraError
from engines.publish import check_replaceable

_DESCRIPTION: Final = (
    "Export a fused model, or any diffusers directory of the Stable Diffusion 1.x family, to a "
    "bundle: four ONNX graphs with dynamic batch, size and text length, the tokenizer, and a "
    "bundle.json that says what it was made from."
)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = commands.add_parser(
        "export", help="write a fused model as ONNX", description=_DESCRIPTION
    )
    parser.add_argument("model", type=Path, metavar="FUSED", help="what `convert fuse` made")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE")
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="fp16",
        help="of weights and activations (default: %(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="replace an older bundle")
    add_common_arguments(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> Result:
    """Plan and run an export."""
    check_replaceable(options.out, force=options.force, marker=layout.BUNDLE_FILE)
    try:
        from convert.export import run_export
        from convert.export_plan import plan_export
    except ImportError as error:
        raise MissingExtraError(str(error.name), "convert", "convert export") from error
    with measured() as total:
        plan = plan_export(options.model, dtype=options.dtype, progress=not options.quiet)
        manifest, costs = run_export(
            plan, options.out, force=options.force, progress=not options.quiet
        )
    lines = [f"  {name}: {cost}" for name, cost in costs.items()]
    size = sum(entry.size for entry in manifest.files.values())
    return Result(
        text="\n".join([*lines, f"{options.out}: {size / 1e6:.0f} MB, {total}"]),
        value={
            "out": str(options.out),
            "identity": manifest.identity,
            "bytes": size,
            **asdict(total),
            "components": {name: asdict(cost) for name, cost in costs.items()},
        },
    )
