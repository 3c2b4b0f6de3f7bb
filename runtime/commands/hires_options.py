"""Options of the second pass, and of how the VAE takes large pictures."""

import argparse
import dataclasses
from typing import TYPE_CHECKING

from engines.errors import SettingError
from runtime.commands.option_groups import read_group
from runtime.commands.size_option import size

if TYPE_CHECKING:
    from runtime.hires import HiresSettings

_NAMES = {"hires_upscaler": "upscaler", "hires_steps": "steps", "hires_strength": "strength"}
"""The options' names and those of the settings' fields."""


def add_hires_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of hires fix and `--vae-tiling`."""
    hires = parser.add_argument_group("large pictures", "see docs/img2img.md")
    target = hires.add_mutually_exclusive_group()
    target.add_argument(
        "--hires-scale",
        type=float,
        metavar="X",
        help="hires fix: work over the picture, this much larger; 1 makes no second pass, even "
        "where the picture of --from had one",
    )
    target.add_argument(
        "--hires-size", type=size, metavar="WxH", help="hires fix to a size in pixels"
    )
    hires.add_argument(
        "--hires-upscaler",
        metavar="NAME",
        help="latent (default), 'latent (nearest)', 'latent (bicubic)', nearest, bilinear, bicubic "
        "or lanczos",
    )
    hires.add_argument(
        "--hires-steps", type=int, metavar="N", help="of the second pass (default: as the first)"
    )
    hires.add_argument(
        "--hires-strength",
        type=float,
        metavar="X",
        help="how much the second pass changes, 0 to 1 (default 0.7)",
    )
    hires.add_argument(
        "--vae-tiling",
        metavar="WHEN",
        help="on, off, or auto (default): pictures above 1024x1024 pixels go through the VAE in "
        "tiles",
    )


def read_hires_settings(
    options: argparse.Namespace, source: "HiresSettings | None" = None
) -> "HiresSettings | None":
    """What the options of `add_hires_arguments` ask for; nothing else is checked yet.

    Args:
        options: those of the command.
        source: counts where the options say nothing.

    Raises:
        SettingError: an option stands without the one that it belongs to, or beside a scale of 1.
    """
    fields = read_group(options, "hires_scale", _NAMES, "hires_size", settled=source is not None)
    if options.hires_scale == 1:
        if fields:
            names = ", ".join(f"--hires-{field}" for field in fields)
            raise SettingError(f"--hires-scale 1 makes no second pass: leave {names} out.")
        return None
    if options.hires_size is not None:
        fields["width"], fields["height"] = options.hires_size
        fields["scale"] = 0.0
    elif options.hires_scale is not None:
        fields.update(scale=options.hires_scale, width=0, height=0)
    if not fields:
        return source
    from runtime.hires import HiresSettings

    return dataclasses.replace(source or HiresSettings(), **fields)
