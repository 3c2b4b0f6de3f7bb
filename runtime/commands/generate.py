"""`runtime generate`: prompts to picture files."""

import argparse
import contextlib
import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING

from engines.backend import AUTO, backend_names
from engines.console import Result, add_common_arguments
from runtime.commands.bundle_option import add_bundle_argument, find_bundle
from runtime.commands.hires_options import add_hires_arguments
from runtime.commands.init_options import add_init_arguments
from runtime.commands.output_options import add_output_arguments, open_output, quality
from runtime.commands.progress import Progress
from runtime.commands.request_options import (
    add_request_arguments,
    read_requests,
    read_sheet,
    read_source,
)
from runtime.commands.sampling_options import add_sampling_arguments
from runtime.commands.seed_options import add_seed_arguments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.metadata import Origin
    from runtime.outputs import PictureOutput
    from runtime.pipeline import Pipeline
    from runtime.png import Picture
    from runtime.prompt_plan import TokenCount
    from runtime.request import Settings
    from runtime.sheet_axes import Sheet


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options; what is left out is the bundle's default."""
    parser = commands.add_parser(
        "generate",
        help="make pictures from prompts",
        description="Make pictures from prompts, as files that say how they were made.",
    )
    add_request_arguments(parser)
    add_bundle_argument(parser)
    parser.add_argument(
        "--backend", default=AUTO, metavar="NAME", help=f"{', '.join(backend_names())}"
    )
    add_common_arguments(parser)
    add_init_arguments(parser)
    add_hires_arguments(parser)
    add_seed_arguments(parser)
    add_sampling_arguments(parser)
    add_output_arguments(parser)
    parser.set_defaults(command=run, usage_error=parser.error)


def run(options: argparse.Namespace) -> Result:
    """Generate the pictures and write each as soon as it is finished."""
    from runtime.again import warn_of_differences
    from runtime.pipeline import Pipeline

    sheet = read_sheet(options)
    if not (options.prompts or options.source or (sheet and sheet.varies("prompt"))):
        options.usage_error("give a PROMPT, or a picture with --from, or a --sheet of prompts")
    started = time.monotonic()
    recorded = read_source(options)
    requests = read_requests(options, recorded, sheet)
    output = open_output(options, sum(request.count for request in requests))
    path = find_bundle(options.bundle)
    with Pipeline.open(path, options.backend) as pipeline:
        if recorded.origin is not None:
            warn_of_differences(options.source, recorded.origin, pipeline.origin)
        settings = pipeline.settle(requests)
        _check_files(options, output, pipeline, settings, sheet)
        written, sheet_file = _generate(options, output, pipeline, settings, sheet)
        backend, reason = pipeline.choice.backend, pipeline.choice.reason
    seconds = round(time.monotonic() - started, 2)
    lines = [
        f"{file}  seed {made.seed}  {_describe_tokens(tokens)}" for file, made, tokens in written
    ]
    if sheet_file is not None:
        lines.append(str(sheet_file))
    lines.append(f"{path} on {backend.name} ({backend.device}; {reason}) in {seconds:.1f} s")
    return Result(
        text="\n".join(lines),
        value={
            "pictures": [
                {
                    "file": str(file),
                    "seed": made.seed,
                    "prompt": made.prompt,
                    "tokens": dataclasses.asdict(tokens),
                }
                for file, made, tokens in written
            ],
            "sheet": None if sheet_file is None else str(sheet_file),
            "bundle": str(path),
            "backend": backend.name,
            "device": backend.device,
            "reason": reason,
            "seconds": seconds,
        },
    )


def _describe_tokens(tokens: "TokenCount") -> str:
    """As in `12/75 tokens, negative 5/75`."""
    prompts = ", ".join(f"{count}/{tokens.room}" for count in tokens.prompts)
    negative = "" if tokens.negative is None else f", negative {tokens.negative}/{tokens.room}"
    return f"{prompts} tokens{negative}"


def _check_files(
    options: argparse.Namespace,
    output: "PictureOutput",
    pipeline: "Pipeline",
    settings: "Sequence[Settings]",
    sheet: "Sheet | None",
) -> None:
    """Refuse what the files could not hold."""
    from runtime.mosaic import default_columns, sheet_size, warn_of_missing_letters
    from runtime.picture_file import check_sheet, check_sheet_text, check_size, check_texts

    together = options.grid or sheet is not None
    if output.to_directory or not together:
        for each in settings:
            check_texts(each, pipeline.origin, output.kind)
            check_size(*_size(each), output.kind)
    if not together:
        return
    columns = len(sheet.columns.labels) if sheet else default_columns(len(settings))
    sizes = [_size(each) for each in settings]
    width, height = (max(sides) for sides in zip(*sizes, strict=True))
    rows = -(-len(settings) // columns)
    check_sheet(*sheet_size(columns, rows, width, height, labelled=bool(sheet)), output.kind)
    check_sheet_text(_sheet_text(settings[0], pipeline.origin, sheet), output.kind)
    if sheet:
        warn_of_missing_letters([*sheet.columns.labels, *(sheet.rows.labels if sheet.rows else ())])


def _size(settings: "Settings") -> tuple[int, int]:
    """Width and height of the finished picture."""
    init, hires = settings.init, settings.hires
    if hires is not None:
        return hires.width, hires.height
    if init is not None and init.keeps_size:
        return init.picture.width, init.picture.height
    return settings.width, settings.height


def _generate(
    options: argparse.Namespace,
    output: "PictureOutput",
    pipeline: "Pipeline",
    settings: "Sequence[Settings]",
    sheet: "Sheet | None",
) -> "tuple[list[tuple[Path, Settings, TokenCount]], Path | None]":
    """Write every picture, and the sheet or grid if there is one; where they are, and how long."""
    from runtime.picture_file import encode

    together = options.grid or sheet is not None
    written = []
    kept: dict[int, Picture] = {}
    with contextlib.closing(Progress(quiet=options.quiet)) as progress:
        for picture in pipeline.generate(settings, progress.show):
            if together:
                kept[id(picture.settings)] = picture
            if output.to_directory or not together:
                encoded = encode(picture, output.kind, quality(options))
                file = output.write(encoded, picture.settings.seed)
                tokens = pipeline.prompts(picture.settings).tokens
                written.append((file, picture.settings, tokens))
    if not together:
        return written, None
    pictures = [kept[id(each)] for each in settings]
    return written, output.write_sheet(_sheet(options, output, pictures, sheet))


def _sheet(
    options: argparse.Namespace,
    output: "PictureOutput",
    pictures: "Sequence[Picture]",
    sheet: "Sheet | None",
) -> bytes:
    """All pictures in one file, which says how the first of them was made."""
    from runtime.mosaic import default_columns, make_grid, make_sheet
    from runtime.picture_file import encode_sheet

    pixels = [picture.pixels for picture in pictures]
    if sheet is None:
        whole = make_grid(pixels, default_columns(len(pixels)))
    else:
        rows = None if sheet.rows is None else sheet.rows.labels
        whole = make_sheet(pixels, sheet.columns.labels, rows)
    text = _sheet_text(pictures[0].settings, pictures[0].origin, sheet)
    return encode_sheet(whole, output.kind, quality(options), text)


def _sheet_text(first: "Settings", origin: "Origin", sheet: "Sheet | None") -> str:
    """The webui's text of the first picture, and the axes."""
    from runtime.metadata import format_parameters

    return format_parameters(first, origin, {} if sheet is None else {"Sheet": sheet.text})
