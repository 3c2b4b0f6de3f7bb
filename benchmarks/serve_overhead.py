"""What the HTTP layer costs: ours and LitServe's around one pipeline on engines that cost nothing.

python -m benchmarks.serve_overhead PATH/TO/PYTHON, the interpreter of an environment with litserve,
numpy, pillow, tokenizers and tqdm. Both servers run at once and are asked in turns, so that a drift
of the machine's speed falls on both; each answers one picture at a time. The overhead of a picture
is what its answer takes beyond the pipeline and the PNG file in a process by themselves.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.measure import RESULTS, hardware
from benchmarks.server_process import serving
from benchmarks.stub_server import make_picture, stub_pipeline
from engines.identity import tool_versions
from tests.runtime.stand_ins import write_bundle

RESULT = RESULTS / "serve_overhead.json"
MODULES = {"ours": "benchmarks.stub_server", "litserve": "benchmarks.litserve_server"}
HEALTH = {"ours": "/healthz", "litserve": "/health"}
PICTURE = {"ours": "/sdapi/v1/txt2img", "litserve": "/predict"}
STEPS = 4
QUIET_LOAD = 0.5
"""Load of the system per core beyond which the figures should be taken again."""


def main() -> int:
    """Measure, print a table, and save the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("litserve_python", type=Path)
    parser.add_argument("--requests", type=int, default=200, help="of each kind in each turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    options = parser.parse_args()
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_bundle(Path(folder) / "bundle")
        alone = _seconds_alone(bundle, options.requests)
        interpreters = {"ours": Path(sys.executable), "litserve": options.litserve_python}
        with contextlib.ExitStack() as stack:
            addresses = {
                name: stack.enter_context(_serving(name, python, bundle))
                for name, python in interpreters.items()
            }
            runs = asyncio.run(
                _measure(addresses, options.clients, options.requests, options.turns)
            )
    for run in runs:
        if run["what"] == "picture" and run["clients"] == 1:
            run["overhead_milliseconds"] = round(run["p50"] - 1000 * alone, 3)
    _print(runs, alone)
    content = {
        "command": f"python -m benchmarks.serve_overhead {options.litserve_python.name} "
        f"--requests {options.requests} --turns {options.turns} "
        f"--clients {' '.join(map(str, options.clients))}",
        "steps": STEPS,
        "pipeline_alone_milliseconds": round(1000 * alone, 3),
        "runs": runs,
        "load_per_core_before": round(load, 2),
        "quiet": load < QUIET_LOAD,
        "hardware": hardware(),
        "versions": {**tool_versions(("fastapi", "uvicorn")), **_versions(options.litserve_python)},
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n")
    if load >= QUIET_LOAD:
        print(f"The load was {load:.1f} a core: run this again on a quiet machine.")
    return 0


def _seconds_alone(bundle: Path, count: int) -> float:
    """The median of a picture without a server."""
    seconds = []
    with stub_pipeline(bundle) as pipeline:
        for seed in range(count):
            began = time.perf_counter()
            make_picture(pipeline, _body(seed))
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _body(seed: int) -> dict[str, Any]:
    return {"prompt": "a cat", "seed": seed, "steps": STEPS, "width": 64, "height": 64}


def _serving(name: str, python: Path, bundle: Path) -> AbstractContextManager[str]:
    def answers(address: str) -> bool:
        url = address + PICTURE[name]
        return httpx2.post(url, json=_body(0), timeout=10).status_code == 200

    return serving(lambda port: [python, "-m", MODULES[name], str(port), bundle], answers)


async def _measure(
    addresses: Mapping[str, str], clients: list[int], count: int, turns: int
) -> list[dict[str, Any]]:
    """Requests a second and milliseconds, by what was asked, how many at once, and whom."""
    runs: list[dict[str, Any]] = []
    for what, paths in (("health", HEALTH), ("picture", PICTURE)):
        for together in clients:
            seconds: dict[str, list[float]] = {name: [] for name in addresses}
            rates: dict[str, list[float]] = {name: [] for name in addresses}
            for _ in range(turns):
                for name, address in addresses.items():
                    began = time.perf_counter()
                    seconds[name] += await _ask(
                        address + paths[name], together, count, picture=what == "picture"
                    )
                    rates[name].append(count / (time.perf_counter() - began))
            for name, all_seconds in seconds.items():
                cuts = statistics.quantiles(all_seconds, n=20)
                runs.append(
                    {
                        "what": what,
                        "clients": together,
                        "server": name,
                        "requests_per_second": round(statistics.median(rates[name]), 1),
                        "p50": round(1000 * statistics.median(all_seconds), 3),
                        "p95": round(1000 * cuts[-1], 3),
                    }
                )
    return runs


async def _ask(url: str, together: int, count: int, *, picture: bool) -> list[float]:
    """The seconds of each of `count` requests by `together` clients."""
    async with httpx2.AsyncClient(timeout=60) as client:

        async def one_client(seeds: range) -> list[float]:
            seconds = []
            for seed in seeds:
                began = time.perf_counter()
                if picture:
                    answer = await client.post(url, json=_body(seed))
                else:
                    answer = await client.get(url)
                answer.raise_for_status()
                seconds.append(time.perf_counter() - began)
            return seconds

        parts = await asyncio.gather(
            *(one_client(range(first, count, together)) for first in range(together))
        )
    return [each for part in parts for each in part]


def _versions(python: Path) -> dict[str, str]:
    script = "import importlib.metadata as m; print(m.version('litserve'))"
    answer = subprocess.run([python, "-c", script], check=True, capture_output=True, text=True)
    return {"litserve": answer.stdout.strip()}


def _print(runs: list[dict[str, Any]], alone: float) -> None:
    print(f"the pipeline and PNG alone: {1000 * alone:.2f} ms")
    print(f"{'what':8}{'clients':>8} {'server':10}{'requests/s':>11}{'p50 ms':>9}{'p95 ms':>9}")
    for run in runs:
        print(
            f"{run['what']:8}{run['clients']:8} {run['server']:10}"
            f"{run['requests_per_second']:11.1f}{run['p50']:9.2f}{run['p95']:9.2f}"
        )


if __name__ == "__main__":
    sys.exit(main())
