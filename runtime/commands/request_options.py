"""From the options of `runtime generate` to requests."""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import SettingError
from runtime.commands.hires_options import read_hires_settings
from runtime.commands.init_options import read_init_settings
from runtime.commands.prompt_options import add_prompt_arguments
from runtime.commands.sampling_options import read_guidance_settings, read_stochasticity
from runtime.commands.seed_options import read_noise_settings
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


def read_requests(
    options: argparse.Namespace, recorded: "Recorded"
) -> "tuple[list[Request], Sheet | None]":
    """The requests that the options ask for, and the sheet that they are the places of.

    Args:
        options: those of the command.
        recorded: counts where the options say nothing.

    Raises:
        SettingError: the options do not go together, or `--sheet` cannot be read.
        InputError: a picture to start from cannot be read.
    """
    from runtime.sheet_axes import parse_sheet

    source, init = recorded.request, read_init_settings(options, recorded)
    requests = [
        _request(options, dataclasses.replace(source, prompt=prompt, init=init))
        for prompt in options.prompts or [source.prompt]
    ]
    if options.sheet is None:
        return requests, None
    sheet = parse_sheet(options.sheet)
    if len(requests) > 1 or requests[0].count > 1:
        raise SettingError("A sheet is of one prompt and one seed; give one, and leave --n out.")
    return sheet.requests(_with_seed(requests[0])), sheet


def _with_seed(request: "Request") -> "Request":
    """The places of a sheet differ in nothing else."""
    from runtime.request import random_seed

    return request if request.seed is not None else dataclasses.replace(request, seed=random_seed())


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
