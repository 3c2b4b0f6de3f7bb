"""`runtime bench`: what pictures cost on this machine."""

import argparse
from typing import TYPE_CHECKING

from engines import layout
from engines.backend import AUTO, backend_names
from engines.console import Result, add_common_arguments
from engines.errors import SettingError
from runtime.commands.bundle_option import add_bundle_argument, find_bundle
from runtime.commands.size_option import size

if TYPE_CHECKING:
    from runtime.bench import Measured

PROMPT = "portrait of a woman"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options; what is left out is the bundle's default."""
    parser = commands.add_parser(
        "bench",
        help="what pictures cost on this machine",
        description="Make the same pictures again and again and show how long each stage takes, "
        "pictures a minute, peak memory and the share of time in the engine. The first round, "
        "which loads and compiles, is shown apart.",
    )
    add_bundle_argument(parser)
    parser.add_argument(
        "--backend", default=AUTO, metavar="NAME", help=f"{', '.join(backend_names())}"
    )
    parser.add_argument("--size", type=size, metavar="WxH", help="in pixels, multiples of 8")
    parser.add_argument("--steps", type=int, help="how many steps the sampler takes")
    parser.add_argument("--cfg", type=float, metavar="X", help="the guidance scale")
    parser.add_argument("--sampler", metavar="NAME", help="such as 'DPM++ 2M' or DDIM")
    parser.add_argument("--n", type=int, default=1, help="pictures in a round (default 1)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds to measure (default 5)")
    add_common_arguments(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> Result:
    """Measure, and show the figures as a table."""
    from tqdm import tqdm

    from engines.backend import choose_backend
    from engines.bundle import open_bundle
    from runtime.bench import measure
    from runtime.request import Request

    if options.rounds < 1:
        raise SettingError(f"{options.rounds} rounds cannot be measured: choose at least 1.")
    path = find_bundle(options.bundle)
    bundle = open_bundle(path)
    choice = choose_backend(options.backend, bundle)
    width, height = options.size or (None, None)
    request = Request(
        PROMPT,
        steps=options.steps,
        cfg=options.cfg,
        sampler=options.sampler,
        width=width,
        height=height,
        count=options.n,
    )
    with tqdm(total=1 + options.rounds, unit="round", disable=options.quiet) as bar:
        measured = measure(
            bundle, choice, request, options.rounds, lambda done: bar.update(done - bar.n)
        )
    backend = choice.backend
    head = f"{path} on {backend.name} ({backend.device}; {choice.reason})"
    return Result(
        text="\n".join([head, *_table(measured)]),
        value={
            "bundle": str(path),
            "backend": backend.name,
            "device": backend.device,
            **measured.value(),
        },
    )


def _table(measured: "Measured") -> list[str]:
    pictures = f"{measured.pictures} picture{'s' if measured.pictures != 1 else ''}"
    lines = [f"{'':16}{'calls':>8}{'p50 ms':>12}{'p95 ms':>12}"]
    stages = [
        (name, measured.stages[name]) for name in layout.COMPONENTS if name in measured.stages
    ]
    for name, spread in (*stages, (pictures, measured.rounds)):
        p50, p95 = 1000 * spread.p50, 1000 * spread.p95
        lines.append(f"{name:16}{spread.count:>8}{p50:>12.2f}{p95:>12.2f}")
    lines += [
        f"first round      {measured.first:.2f} s, loading and compiling included",
        f"pictures         {measured.pictures_per_minute:.2f} a minute",
        f"in the engine    {100 * measured.engine_share:.1f} % of the time",
        f"peak memory      {measured.peak_bytes / 1e9:.2f} GB of this process",
    ]
    return lines
