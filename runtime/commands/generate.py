"""`runtime generate`: prompts to PNG files."""

import argparse
import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from engines.backend import AUTO, backend_names
from engines.console import Result, add_common_arguments
from runtime.commands.bundle_option import add_bundle_argument, find_bundle
from runtime.commands.hires_options import add_hires_arguments, read_hires_settings
from runtime.commands.init_options import add_init_arguments, read_init_settings
from runtime.commands.sampling_options import (
    add_sampling_arguments,
    read_guidance_settings,
    read_stochasticity,
)
from runtime.commands.seed_options import add_seed_arguments, read_noise_settings
from runtime.commands.size_option import size

if TYPE_CHECKING:
    from tqdm import tqdm

    from runtime.init_settings import InitSettings
    from runtime.request import Request


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options; what is left out is the bundle's default."""
    parser = commands.add_parser(
        "generate",
        help="make pictures from prompts",
        description="Make pictures from prompts, as PNG files that say how they were made.",
    )
    parser.add_argument(
        "prompts",
        nargs="+",
        metavar="PROMPT",
        help="in the webui's grammar: (more), [less], (so much:1.3), BREAK, [from:to:0.5], [a|b], "
        "AND (docs/prompts.md)",
    )
    parser.add_argument("--preset", metavar="NAME", help="one of the bundle's presets, or none")
    parser.add_argument("--negative", metavar="TEXT", help="what the picture should not show")
    parser.add_argument("--n", type=int, default=1, help="pictures for each prompt (default 1)")
    parser.add_argument(
        "--seed", type=int, help="of the first picture, the next have the next (default: random)"
    )
    parser.add_argument("--steps", type=int, help="how many steps the sampler takes")
    parser.add_argument("--cfg", type=float, metavar="X", help="the guidance scale")
    parser.add_argument("--sampler", metavar="NAME", help="such as 'DPM++ 2M' or DDIM")
    parser.add_argument("--schedule", metavar="NAME", help="such as karras or automatic")
    parser.add_argument("--size", type=size, metavar="WxH", help="in pixels, multiples of 8")
    parser.add_argument(
        "--clip-skip", type=int, default=1, metavar="N", help="1 (default) or 2, as in the webui"
    )
    add_init_arguments(parser)
    add_hires_arguments(parser)
    add_seed_arguments(parser)
    add_sampling_arguments(parser)
    add_bundle_argument(parser)
    parser.add_argument(
        "--backend", default=AUTO, metavar="NAME", help=f"{', '.join(backend_names())}"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out"),
        metavar="FILE|DIR",
        help="a .png file, or a directory that gets new files (default: out)",
    )
    parser.add_argument("--force", action="store_true", help="replace the file if it exists")
    add_common_arguments(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> Result:
    """Generate the pictures and write each as soon as it is finished."""
    from runtime.outputs import PictureOutput
    from runtime.pipeline import Pipeline

    started = time.monotonic()
    count = len(options.prompts) * options.n
    output = PictureOutput(options.out, count=count, force=options.force)
    path = find_bundle(options.bundle)
    written = []
    init = read_init_settings(options)
    with Pipeline.open(path, options.backend) as pipeline:
        settings = pipeline.settle([_request(options, prompt, init) for prompt in options.prompts])
        with contextlib.closing(_Progress(quiet=options.quiet)) as progress:
            for picture in pipeline.generate(settings, progress.show):
                file = output.write(picture.png(), picture.settings.seed)
                written.append((file, picture.settings))
        backend, reason = pipeline.choice.backend, pipeline.choice.reason
    seconds = round(time.monotonic() - started, 2)
    lines = [f"{file}  seed {made.seed}" for file, made in written]
    lines.append(f"{path} on {backend.name} ({backend.device}; {reason}) in {seconds:.1f} s")
    return Result(
        text="\n".join(lines),
        value={
            "pictures": [
                {"file": str(file), "seed": made.seed, "prompt": made.prompt}
                for file, made in written
            ],
            "bundle": str(path),
            "backend": backend.name,
            "device": backend.device,
            "reason": reason,
            "seconds": seconds,
        },
    )


class _Progress:
    """A bar of the steps done and the time left, from the moment when their number is known."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: tqdm[NoReturn] | None = None

    def show(self, done: int, total: int) -> None:
        """Move the bar to `done` of `total` steps."""
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit="step", disable=self._quiet)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


def _request(options: argparse.Namespace, prompt: str, init: "InitSettings | None") -> "Request":
    from runtime.request import Request

    width, height = options.size or (None, None)
    return Request(
        prompt=prompt,
        negative=options.negative,
        preset=options.preset,
        seed=options.seed,
        steps=options.steps,
        cfg=options.cfg,
        sampler=options.sampler,
        schedule=options.schedule,
        width=width,
        height=height,
        clip_skip=options.clip_skip,
        count=options.n,
        noise=read_noise_settings(options),
        guidance=read_guidance_settings(options),
        stochasticity=read_stochasticity(options),
        init=init,
        hires=read_hires_settings(options),
        vae_tiling=options.vae_tiling,
    )
