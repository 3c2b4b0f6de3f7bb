"""From the options of `runtime generate` to requests."""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import SettingError
from runtime.commands.hires_options import read_hires_settings
from runtime.commands.init_options import with_init
from runtime.commands.prompt_options import add_prompt_arguments
from runtime.commands.sampling_options import (
    leave_out_untaken,
    read_guidance_settings,
    read_stochasticity,
)
from runtime.commands.seed_options import check_subseed, read_noise_settings
from runtime.commands.size_option import size

if TYPE_CHECKING:
    from runtime.again import Recorded
    from runtime.request import Request
    from runtime.sheet_axes import Sheet


def add_request_arguments(parser: argparse.ArgumentParser) -> None:
    """Add prompts, `--from` and the options that every picture has."""
    add_prompt_arguments(parser, nargs="*")
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="make the picture in this file again, but for what other options say",
    )
    parser.add_argument("--n", type=int, help="pictures for each prompt (default 1)")
    parser.add_argument(
        "--seed", type=int, help="of the first picture, the next have the next (default: random)"
    )
    parser.add_argument("--steps", type=int, help="how many steps the sampler takes")
    parser.add_argument("--cfg", type=float, metavar="X", help="the guidance scale")
    parser.add_argument(
        "--sampler", metavar="NAME", help="such as 'DPM++ 2M' or DDIM (docs/samplers.md)"
    )
    parser.add_argument("--schedule", metavar="NAME", help="such as karras or automatic")
    parser.add_argument("--size", type=size, metavar="WxH", help="in pixels, multiples of 8")


def read_source(options: argparse.Namespace) -> "Recorded":
    """What the picture of `--from` asks for, or an empty request.

    Raises:
        InputError: the file does not say how it was made.
    """
    from runtime.again import Recorded, recorded_in
    from runtime.request import Request

    return Recorded(Request("")) if options.source is None else recorded_in(options.source)


def read_sheet(options: argparse.Namespace) -> "Sheet | None":
    """The axes of `--sheet`, if there is one.

    Raises:
        SettingError: they cannot be read.
    """
    if options.sheet is None:
        return None
    from runtime.sheet_axes import parse_sheet

    return parse_sheet(options.sheet)


def read_requests(
    options: argparse.Namespace, recorded: "Recorded", sheet: "Sheet | None"
) -> "list[Request]":
    """The requests that the options ask for.

    Args:
        options: those of the command.
        recorded: counts where the options say nothing.
        sheet: the requests are its places.

    Raises:
        SettingError: the options do not go together.
        InputError: a picture to start from cannot be read.
    """
    _check_preset(options, recorded, sheet)
    source = with_init(options, recorded)
    requests = [
        _request(options, dataclasses.replace(source, prompt=prompt))
        for prompt in options.prompts or [source.prompt]
    ]
    if sheet is not None:
        if len(requests) > 1 or requests[0].count > 1:
            raise SettingError(
                "A sheet is of one prompt and one seed; give one, and leave --n out."
            )
        keep_schedule = options.schedule is not None
        requests = sheet.requests(_with_seeds(requests[0]), keep_schedule=keep_schedule)
        requests = leave_out_untaken(options, requests, sheet)
    check_subseed(options, requests, sheet)
    return requests


def _check_preset(options: argparse.Namespace, recorded: "Recorded", sheet: "Sheet | None") -> None:
    """Refuse a preset or tags for the prompts of a file, which have their own in them.

    Raises:
        SettingError: a prompt would have two of them.
    """
    axes = () if sheet is None else tuple(filter(sheet.varies, ("prompt", "negative", "preset")))
    preset = options.preset is not None or "preset" in axes
    if options.source is None or not (preset or options.tags is not None):
        return
    if not (options.prompts or "prompt" in axes):
        raise SettingError(
            f"The prompt in {options.source} has its preset and tags in it already: give a PROMPT "
            "to choose others."
        )
    negative = options.negative is not None or "negative" in axes
    if preset and recorded.request.negative and not negative:
        raise SettingError(
            f"The negative prompt in {options.source} has that of its preset in it already: give "
            "--negative to choose another preset."
        )


def _with_seeds(request: "Request") -> "Request":
    """The places of a sheet differ in nothing else; where no subseed counts, it is left out."""
    from runtime.request import random_seed

    noise = request.noise
    if noise.subseed is None:
        noise = dataclasses.replace(noise, subseed=random_seed())
    seed = random_seed() if request.seed is None else request.seed
    return dataclasses.replace(request, seed=seed, noise=noise)


def _request(options: argparse.Namespace, source: "Request") -> "Request":
    width, height = options.size or (None, None)
    given: dict[str, Any] = {
        "negative": options.negative,
        "preset": options.preset,
        "tags": options.tags,
        "seed": options.seed,
        "steps": options.steps,
        "cfg": options.cfg,
        "sampler": options.sampler,
        "schedule": options.schedule,
        "width": width,
        "height": height,
        "clip_skip": options.clip_skip,
        "count": options.n,
        "vae_tiling": options.vae_tiling,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if "sampler" in given:
        given.setdefault("schedule", None)
    return dataclasses.replace(
        source,
        noise=read_noise_settings(options, source.noise),
        guidance=read_guidance_settings(options, source.guidance),
        stochasticity=read_stochasticity(options, source.stochasticity),
        hires=read_hires_settings(options, source.hires),
        **given,
    )
