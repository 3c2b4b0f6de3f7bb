"""The server under load on one bundle: python -m benchmarks.serve_load BUNDLE --backend cpu.

`runtime serve` with the slots that it measures, with four and with one (first come, first served),
and a server with static batches get the same requests at the same times over HTTP, one server after
the other. A load is of what first come, first served can do, which is measured first.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import re
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
from tqdm import tqdm

from benchmarks.arrivals import KINDS, Arrival, measure
from benchmarks.measure import RESULTS, hardware
from benchmarks.server_process import serving
from engines.bundle import open_bundle
from engines.identity import tool_versions
from runtime.pipeline import Pipeline
from runtime.server.capacity import SIZES, measure_capacity

RESULT = RESULTS / "serve_load.json"
BATCH = 4
LOADS = (0.5, 0.9, 1.2)
STEPS = ((4, 0.5), (10, 0.3), (15, 0.2))
"""Steps of a picture and how often they are asked for: few, so that there is time for many."""

SAMPLERS = ("DPM++ 2M", "Euler a", "UniPC")
PROMPTS = (
    "portrait of a woman, cracked skin, blue skin, red background, long blonde hair",
    "glowing cracked skin, orange glow, bald man, dark skin",
    "portrait of a man, brown hair, beard, green eyes",
    "fractured skin, short pink hair, teal background, night",
)
ALONE = "first come, first served"
STATIC = f"static batches of {BATCH}"
CONTINUOUS = f"continuous, {BATCH} slots"
MEASURED = "continuous, slots measured"
SEED = 0
TIMED = 3
"""Pictures of each number of steps that are made alone, to know what a load of 1 is."""

QUIET_LOAD = 0.5
"""Load of the system per core beyond which the figures should be taken again."""

Body = dict[str, Any]


def main() -> int:
    """Measure, save the figures, and print the table of docs/serving.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--pictures", type=int, default=60, help="of each run")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    if options.pictures < 2:
        parser.error("--pictures must be at least 2: one has no rate")
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    with Pipeline.open(options.bundle, options.backend) as pipeline:
        rows = seconds_of_rows(pipeline)
    with contextlib.ExitStack() as stack:
        addresses = {
            name: stack.enter_context(_serving(options.bundle, options.backend, *arguments))
            for name, arguments in {
                ALONE: ("serve", 1),
                STATIC: ("static", BATCH),
                CONTINUOUS: ("serve", BATCH),
                MEASURED: ("serve", 0),
            }.items()
        }
        slots = _slots(addresses[MEASURED])
        seconds = asyncio.run(seconds_alone(addresses[ALONE]))
        runs = list(measure_all(addresses, seconds, options.pictures))
    manifest = open_bundle(options.bundle).manifest
    content = {
        "command": f"python -m benchmarks.serve_load bundles/{manifest.name} "
        f"--backend {options.backend} --pictures {options.pictures}",
        "bundle": manifest.identity,
        "seconds_of_row": {str(size): round(each, 4) for size, each in rows.items()},
        "slots_measured": slots,
        "seconds_alone": {str(steps): round(each, 4) for steps, each in seconds.items()},
        "pictures_per_second_alone": round(capacity(seconds), 3),
        "runs": runs,
        "load_per_core_before": round(load, 2),
        "quiet": load < QUIET_LOAD,
        "hardware": hardware(),
        "versions": tool_versions(("numpy", "onnxruntime", "fastapi", "uvicorn")),
    }
    options.out.write_text(json.dumps(content, indent=1) + "\n")
    print(markdown_table(content))
    print("seconds of a row, by pictures:", content["seconds_of_row"])
    if load >= QUIET_LOAD:
        print(f"The load was {load:.1f} a core: run this again on a quiet machine.")
    return 0


def seconds_of_rows(pipeline: Pipeline) -> dict[int, float]:
    """How long a row takes with so many pictures, as the server measures it at its start."""
    sizes = [size for size in SIZES if size <= BATCH]
    return {size: measure_capacity(pipeline, size).seconds_per_row[size] for size in sizes}


def make_bodies(arrivals: Sequence[Arrival]) -> list[Body]:
    """What is asked for at each arrival: prompts and samplers in turns, seeds that all differ."""
    return [
        {
            "prompt": PROMPTS[seed % len(PROMPTS)],
            "seed": seed,
            "steps": each.steps,
            "sampler_name": SAMPLERS[seed % len(SAMPLERS)],
        }
        for seed, each in enumerate(arrivals)
    ]


def arrivals_from_zero(kind: str, rate: float, count: int) -> list[Arrival]:
    """Arrivals of one of `KINDS`, the same each time; the first comes at once."""
    arrivals = list(KINDS[kind](rate, count, STEPS, random.Random(SEED)))
    return [Arrival(each.at - arrivals[0].at, each.steps) for each in arrivals]


def capacity(seconds: Mapping[int, float]) -> float:
    """Pictures a second, made one at a time, by the seconds of one with a number of steps."""
    return 1 / sum(share * seconds[steps] for steps, share in STEPS)


async def seconds_alone(address: str) -> dict[int, float]:
    """The median of pictures made one after the other, by their number of steps."""
    arrivals = [Arrival(0, steps) for steps, _ in STEPS for _ in range(TIMED)]
    seconds: dict[int, list[float]] = {}
    async with _client(address) as client:
        for body in make_bodies(arrivals):
            began = time.monotonic()
            await _make(client, body)
            seconds.setdefault(body["steps"], []).append(time.monotonic() - began)
    return {steps: statistics.median(each) for steps, each in seconds.items()}


def measure_all(
    addresses: Mapping[str, str], seconds: Mapping[int, float], pictures: int
) -> Iterator[dict[str, str | float]]:
    """Every server under every kind and rate of arrivals; the servers take turns in each.

    Args:
        addresses: of the servers, by their names.
        seconds: what `seconds_alone` returned.
        pictures: of each run.
    """
    cases = list(itertools.product(KINDS, LOADS, addresses))
    for kind, load, name in tqdm(cases, unit="run"):
        arrivals = arrivals_from_zero(kind, load * capacity(seconds), pictures)
        work = sum(seconds[each.steps] for each in arrivals)
        finished = asyncio.run(ask_all(addresses[name], arrivals))
        yield {
            "arrivals": kind,
            "load": load,
            "load_drawn": round(work / arrivals[-1].at, 2),
            "server": name,
            **{key: round(value, 3) for key, value in measure(arrivals, finished).items()},
        }


async def ask_all(address: str, arrivals: Sequence[Arrival]) -> list[float]:
    """Ask for pictures as they arrive; return when each was here, in the arrivals' seconds."""
    async with _client(address) as client:
        began = time.monotonic()

        async def ask(arrival: Arrival, body: Body) -> float:
            await asyncio.sleep(began + arrival.at - time.monotonic())
            await _make(client, body)
            return time.monotonic() - began

        bodies = make_bodies(arrivals)
        return await asyncio.gather(*map(ask, arrivals, bodies))


def markdown_table(content: Mapping[str, Any]) -> str:
    """The table of docs/serving.md; equal cells in the first columns are left out."""
    lines = [
        "| arrivals | load | server | pictures/s | p50 | p95 | p99 |",
        "|---|---|---|---|---|---|---|",
    ]
    before: tuple[str, float] | None = None
    for run in content["runs"]:
        group = run["arrivals"], run["load"]
        first = f"{group[0]} | {group[1]}" if group != before else "|"
        before = group
        name = run["server"]
        if name == MEASURED:
            name += f" ({content['slots_measured']})"
        figures = " | ".join(
            f"{run[key]:.2f}" for key in ("pictures_per_second", "p50", "p95", "p99")
        )
        lines.append(f"| {first} | {name} | {figures} |")
    return "\n".join(lines)


def _serving(
    bundle: Path, backend: str, kind: str, size: int
) -> contextlib.AbstractContextManager[str]:
    where = str(bundle.absolute())

    def command(port: int) -> list[str]:
        if kind == "static":
            start = ["-m", "benchmarks.static_server", str(port), where, "--size", str(size)]
        else:
            start = ["-m", "runtime", "serve", "--bundle", where, "--port", str(port)]
            start += ["--slots", str(size), "--queue", "10000"]
        return [sys.executable, *start, "--backend", backend]

    return serving(command, lambda address: httpx2.get(address + "/readyz").status_code == 200)


def _slots(address: str) -> int:
    text = httpx2.get(address + "/metrics").text
    found = re.search(r"^fracture_slots (\S+)$", text, re.MULTILINE)
    if found is None:
        raise SystemExit("The server does not say how many slots it has.")
    return int(float(found[1]))


def _client(address: str) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=None)
    return httpx2.AsyncClient(base_url=address, timeout=None, limits=limits)


async def _make(client: httpx2.AsyncClient, body: Body) -> None:
    (await client.post("/sdapi/v1/txt2img", json=body)).raise_for_status()


if __name__ == "__main__":
    sys.exit(main())
