"""Options that say what a seed means."""

import argparse
import dataclasses
from typing import TYPE_CHECKING

from engines.errors import SettingError
from runtime.commands.size_option import size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.request import Request
    from runtime.seeds import NoiseSettings
    from runtime.sheet_axes import Sheet


def add_seed_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--noise` and the options that vary a seed."""
    seeds = parser.add_argument_group("seeds", "in the webui's sense of these words")
    seeds.add_argument(
        "--noise",
        metavar="SOURCE",
        help="cpu (default) for the seeds of torch's CPU generator, as diffusers mostly has them; "
        "nv for those of its CUDA generator, as the webui has them by default",
    )
    seeds.add_argument("--subseed", type=int, help="the seed to turn to (default: random)")
    seeds.add_argument(
        "--subseed-strength",
        type=float,
        metavar="X",
        help="how far to turn, 0 (default) to 1; several pictures have the next subseeds",
    )
    seeds.add_argument(
        "--seed-resize-from",
        type=size,
        metavar="WxH",
        help="lay the noise out as in a picture of this size",
    )
    seeds.add_argument(
        "--eta-noise-seed-delta",
        type=int,
        metavar="N",
        help="add this to the seed for the noise that samplers draw (the webui's ENSD)",
    )


def read_noise_settings(options: argparse.Namespace, source: "NoiseSettings") -> "NoiseSettings":
    """What the options of `add_seed_arguments` make of `source`; nothing is checked yet."""
    width, height = options.seed_resize_from or (None, None)
    given = {
        "source": options.noise,
        "subseed": options.subseed,
        "subseed_strength": options.subseed_strength,
        "from_width": width,
        "from_height": height,
        "eta_seed_delta": options.eta_noise_seed_delta,
    }
    values = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(source, **values)


def check_subseed(
    options: argparse.Namespace, requests: "Sequence[Request]", sheet: "Sheet | None"
) -> None:
    """Refuse a subseed, the option's or a sheet's, that no picture turns to.

    Raises:
        SettingError: it would be without effect.
    """
    if any(request.noise.subseed_strength for request in requests):
        return
    if sheet is not None and sheet.varies("subseed"):
        raise SettingError(
            "An axis subseed needs --subseed-strength, or an axis subseed-strength, above 0: "
            "it changes nothing else."
        )
    if options.subseed is not None:
        raise SettingError("--subseed needs --subseed-strength above 0: it changes nothing else.")
