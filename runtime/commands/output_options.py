"""Options that say where pictures go, and what they look like there."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from engines.errors import SettingError

if TYPE_CHECKING:
    from runtime.outputs import PictureOutput

_KINDS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}
_QUALITY = 95


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of files, grids and contact sheets."""
    output = parser.add_argument_group("files")
    output.add_argument(
        "--out",
        type=Path,
        default=Path("out"),
        metavar="FILE|DIR",
        help="a .png, .jpg or .webp file, or a directory that gets new files (default: out)",
    )
    output.add_argument("--force", action="store_true", help="replace the file if it exists")
    output.add_argument(
        "--format", choices=list(_KINDS), help="of files in a directory (default: png)"
    )
    output.add_argument(
        "--quality",
        type=int,
        metavar="N",
        help=f"of JPEG and WebP files, 1 to 100 (default {_QUALITY})",
    )
    sheets = output.add_mutually_exclusive_group()
    sheets.add_argument(
        "--grid",
        action="store_true",
        help="put all pictures into one file too; only that where --out is a file",
    )
    sheets.add_argument(
        "--sheet",
        metavar="AXES",
        help="one picture for each place of a labelled sheet, as in 'cfg=1,4,7;steps=10,20', "
        "'seed=1..8', 'weight:cracked skin=0.5,1,1.5' (docs/pictures.md)",
    )


def open_output(options: argparse.Namespace, count: int) -> "PictureOutput":
    """Where the pictures go, checked.

    Raises:
        SettingError: the options do not go together, or the place cannot be one for pictures.
        OutputError: the place cannot be written.
    """
    from runtime.outputs import PictureOutput

    sheet = options.grid or options.sheet is not None
    kind = _KINDS[options.format] if options.format else None
    output = PictureOutput(options.out, count=count, force=options.force, kind=kind, sheet=sheet)
    if options.quality is not None and output.kind == "PNG":
        raise SettingError("PNG files have no --quality: they lose nothing. Leave it out.")
    if options.quality is not None:
        from runtime.picture_file import check_quality

        check_quality(options.quality)
    return output


def quality(options: argparse.Namespace) -> int:
    """The quality of lossy pictures."""
    return _QUALITY if options.quality is None else int(options.quality)
