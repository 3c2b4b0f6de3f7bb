"""`convert export`: write a fused model as a bundle of ONNX graphs."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Final

from convert.commands.export_arguments import (
    add_embedding_argument,
    add_export_arguments,
    merge_export_arguments,
)
from convert.export_options import ExportOptions
from convert.measure import measured
from engines import layout
from engines.console import Result, add_common_arguments
from engines.errors import MissingExtraError
from engines.manifest import Manifest
from engines.publish import check_replaceable

_DESCRIPTION: Final = (
    "Export a fused model, or any diffusers directory of the Stable Diffusion 1.x family, to a "
    "bundle: four ONNX graphs with dynamic batch, size and text length, the tokenizer, and a "
    "bundle.json that says what it was made from. A half of the VAE whose values overflow fp16 is "
    "exported in fp32; the result and bundle.json say so."
)
_DEFAULTS: Final = f"fp16, opset {ExportOptions().opset}, every size"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = commands.add_parser(
        "export", help="write a fused model as ONNX", description=_DESCRIPTION
    )
    parser.add_argument("model", type=Path, metavar="FUSED", help="what `convert fuse` made")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE")
    add_export_arguments(parser, otherwise=_DEFAULTS)
    add_embedding_argument(parser, otherwise="none")
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
        plan = plan_export(
            options.model,
            **asdict(merge_export_arguments(options, ExportOptions())),
            embeddings=options.embedding or (),
            progress=not options.quiet,
        )
        manifest, costs = run_export(
            plan, options.out, force=options.force, progress=not options.quiet
        )
    lines = [f"  {name}: {cost}" for name, cost in costs.items()]
    lines += describe_dtype_reasons(manifest)
    size = sum(entry.size for entry in manifest.files.values())
    return Result(
        text="\n".join([*lines, f"{options.out}: {size / 1e6:.0f} MB, {total}"]),
        value={
            "out": str(options.out),
            "identity": manifest.identity,
            "bytes": size,
            **asdict(total),
            "components": {
                name: {
                    "dtype": spec.dtype,
                    "dtype_reason": spec.dtype_reason,
                    **asdict(costs[name]),
                }
                for name, spec in manifest.components.items()
            },
        },
    )


def describe_dtype_reasons(manifest: Manifest) -> list[str]:
    """A line for each component that has another dtype than was asked for."""
    return [
        f"  {name} is {spec.dtype}: {spec.dtype_reason}"
        for name, spec in manifest.components.items()
        if spec.dtype_reason
    ]
