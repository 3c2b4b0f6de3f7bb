"""`runtime tokens`: how a prompt is read, step by step and chunk by chunk."""

import argparse
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from engines.console import Result, add_common_arguments
from engines.identity import Json
from runtime.commands.bundle_option import add_bundle_argument, find_bundle
from runtime.commands.prompt_options import add_prompt_arguments

if TYPE_CHECKING:
    from runtime.prompt_plan import PromptPlan, Reading


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = commands.add_parser(
        "tokens",
        help="how a prompt is read, and how long it is",
        description="Show what a prompt is at each step, with presets and tags put in, and how "
        "many tokens and chunks of 75 it takes. Nothing is ever cut off. No graph is loaded.",
    )
    add_prompt_arguments(parser, nargs="+")
    parser.add_argument("--steps", type=int, help="how many steps the sampler takes")
    parser.add_argument("--cfg", type=float, metavar="X", help="the guidance scale")
    add_bundle_argument(parser)
    add_common_arguments(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> Result:
    """Settle and plan each prompt."""
    from engines.bundle import open_bundle
    from runtime.prompt_plan import PromptPlanner
    from runtime.request import Request, settle
    from runtime.textual_inversion import open_vocabulary

    bundle = open_bundle(find_bundle(options.bundle))
    planner = PromptPlanner(open_vocabulary(bundle))
    plans = []
    for prompt in options.prompts:
        request = Request(
            prompt=prompt,
            negative=options.negative,
            preset=options.preset,
            tags=options.tags,
            steps=options.steps,
            cfg=options.cfg,
            clip_skip=1 if options.clip_skip is None else options.clip_skip,
        )
        (settings,) = settle(request, bundle.manifest)
        plans.append(
            planner.plan(
                settings.prompt, settings.negative, settings.steps, settings.cfg, settings.clip_skip
            )
        )
    return Result(
        text="\n".join(line for plan in plans for line in _describe(plan)),
        value={"prompts": [_value(plan) for plan in plans]},
    )


def _describe(plan: "PromptPlan") -> list[str]:
    lines = []
    for weight, readings in zip(plan.weights, plan.readings, strict=True):
        lines.append("prompt" if len(plan.weights) == 1 else f"prompt of weight {weight:g}")
        lines += _describe_readings(readings, plan.tokens.room)
    if plan.negative_readings is None:
        return [*lines, "negative prompt: has no part at this guidance"]
    return [
        *lines,
        "negative prompt",
        *_describe_readings(plan.negative_readings, plan.tokens.room),
    ]


def _describe_readings(readings: Sequence["Reading"], room: int) -> list[str]:
    return [
        f"  {_steps(**span)}  {reading.tokens}/{room} tokens"
        f"{_chunks(reading)}  {reading.text.strip()}"
        for reading, span in _spans(readings)
    ]


def _steps(first: int, last: int) -> str:
    return f"step {first}" if first == last else f"steps {first}-{last}"


def _chunks(reading: "Reading") -> str:
    lengths = reading.chunks
    return f" ({' + '.join(map(str, lengths))})" if len(lengths) > 1 else ""


def _value(plan: "PromptPlan") -> dict[str, Json]:
    negative = plan.negative_readings
    return {
        "prompts": [
            {"weight": weight, "texts": _texts(readings)}
            for weight, readings in zip(plan.weights, plan.readings, strict=True)
        ],
        "negative": None if negative is None else _texts(negative),
        "room": plan.tokens.room,
        "chunks": plan.length,
    }


def _texts(readings: Sequence["Reading"]) -> list[Json]:
    return [
        {**span, "text": reading.text, "chunks": [*reading.chunks], "tokens": reading.tokens}
        for reading, span in _spans(readings)
    ]


def _spans(readings: Sequence["Reading"]) -> list[tuple["Reading", dict[str, int]]]:
    """Each text in turn, and the first and last of its steps, counted from 1."""
    spans = []
    first = 1
    for reading, group in groupby(readings):
        last = first + len(list(group)) - 1
        spans.append((reading, {"first": first, "last": last}))
        first = last + 1
    return spans
