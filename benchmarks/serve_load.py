"""The server under load on one bundle, by its number of slots: python -m benchmarks.serve_load.

Each number of slots serves the same arrivals over HTTP on the loopback, in a server of its own.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import uvicorn

from benchmarks.measure import hardware
from benchmarks.serve_simulation import Arrival, measure, poisson
from runtime.pipeline import Pipeline
from runtime.server.app import create_app
from runtime.server.service import Service
from runtime.server.settings import ServerSettings

RESULT = Path(__file__).parent / "results" / "serve_load.json"


def main() -> int:
    """Measure, print a table, and save the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--rate", type=float, help="pictures a second (default: all at once)")
    options = parser.parse_args()
    random_ = random.Random(0)
    arrivals = list(poisson(options.rate or 1e9, options.pictures, random_))
    runs = []
    print(f"{'slots':>5}{'pictures/s':>12}{'p50':>8}{'p95':>8}{'p99':>8}{'HTTP alone, ms':>16}")
    for slots in options.slots:
        figures = asyncio.run(_run(options.bundle, options.backend, slots, arrivals))
        runs.append({"slots": slots, **figures})
        print(
            f"{slots:5}{figures['pictures_per_second']:12.2f}{figures['p50']:8.2f}"
            f"{figures['p95']:8.2f}{figures['p99']:8.2f}{figures['http_milliseconds']:16.2f}"
        )
    content = {"rate": options.rate, "runs": runs, "hardware": hardware()}
    RESULT.write_text(json.dumps(content, indent=1) + "\n")
    return 0


async def _run(bundle: Path, backend: str, slots: int, arrivals: list[Arrival]) -> dict[str, float]:
    service = Service(
        ServerSettings(slots=slots, queue=10_000, deadline=86_400.0), Pipeline.open(bundle, backend)
    )
    server = uvicorn.Server(uvicorn.Config(create_app(service), port=0, log_config=None))
    serving = asyncio.create_task(server.serve())
    while not server.started or service.worker.capacity is None:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", timeout=None, limits=limits
    ) as client:
        alone = await _http_milliseconds(client)
        began = time.monotonic()
        finished = await asyncio.gather(
            *(_ask(client, began, seed, each) for seed, each in enumerate(arrivals))
        )
    server.should_exit = True
    await serving
    return {**measure(arrivals, finished), "http_milliseconds": alone}


async def _ask(client: httpx2.AsyncClient, began: float, seed: int, arrival: Arrival) -> float:
    await asyncio.sleep(began + arrival.at - time.monotonic())
    body: dict[str, Any] = {"prompt": "cracked skin", "seed": seed, "steps": arrival.steps}
    answer = await client.post("/sdapi/v1/txt2img", json=body)
    answer.raise_for_status()
    return time.monotonic() - began


async def _http_milliseconds(client: httpx2.AsyncClient, count: int = 200) -> float:
    """The median of a request that no engine has a part in."""
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        (await client.get("/sdapi/v1/options")).raise_for_status()
        seconds.append(time.perf_counter() - began)
    return 1000 * sorted(seconds)[count // 2]


if __name__ == "__main__":
    sys.exit(main())
