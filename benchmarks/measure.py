"""What the benchmarks share: whole-process timing in turns, the hardware's name, saved results."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from engines.backends.openvino import has_amx
from engines.identity import Json, tool_versions

RESULTS = Path(__file__).parent / "results"

DISTRIBUTIONS = (
    "diffusers",
    "numpy",
    "onnxruntime",
    "openvino",
    "tokenizers",
    "torch",
    "transformers",
)


@dataclass(frozen=True)
class Timing:
    """Seconds of wall time of whole processes over all counted runs, and their largest memory.

    `peak_bytes` is the largest resident size that any of the runs had.
    """

    median: float
    minimum: float
    maximum: float
    runs: int
    peak_bytes: int


def time_in_turns(
    commands: Mapping[str, Sequence[str]],
    runs: int,
    *,
    warmups: int = 1,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Timing]:
    """Run each command as a process, one after the other in turns, and time it from outside.

    Turns (A B A B …) let a drift of the machine's speed fall on all of them alike; quote ratios of
    the medians.

    Args:
        commands: by the names of who runs.
        runs: of each, timed.
        warmups: of each, not timed.
        environment: variables beside this process's own.

    Raises:
        subprocess.CalledProcessError: a command failed; what it wrote to stderr was shown.
    """
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    peaks = dict.fromkeys(commands, 0)
    for turn in range(warmups + runs):
        for name, command in commands.items():
            wall, peak = _run(command, environment or {})
            peaks[name] = max(peaks[name], peak)
            if turn >= warmups:
                seconds[name].append(wall)
    return {
        name: Timing(
            round(statistics.median(values), 3),
            round(min(values), 3),
            round(max(values), 3),
            len(values),
            peaks[name],
        )
        for name, values in seconds.items()
    }


# A process starts with the peak of the one that starts it, so a small one stands between.
_LAUNCHER = """
import os, subprocess, sys, time
report, *command = sys.argv[1:]
start = time.perf_counter()
process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
wall = time.perf_counter() - start
with open(report, "w") as file:
    file.write(f"{wall} {usage.ru_maxrss * 1024}")
sys.exit(bool(status))
"""


def _run(command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, int]:
    """One process: its seconds and its largest resident size in bytes."""
    with tempfile.NamedTemporaryFile("r") as report:
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", _LAUNCHER, report.name, *command],
            env={**os.environ, **environment},
            check=True,
        )
        wall, peak = report.read().split()
    return float(wall), int(peak)


def hardware() -> dict[str, Json]:
    """The processor's name and flags that matter, cores, memory, system."""
    cpu = Path("/proc/cpuinfo").read_text()
    name = next(line.partition(":")[2].strip() for line in cpu.splitlines() if "model name" in line)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": name,
        "amx_bf16": has_amx(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "gpu": None,
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }


def save(
    name: str, command: str, figures: Mapping[str, Json], timings: Mapping[str, Timing]
) -> str:
    """Write benchmarks/results/NAME.json, and return the same as text.

    Args:
        name: the benchmark.
        command: what was run, as the reader would type it.
        figures: everything measured that is not a timing: ratios, bytes.
        timings: whole-process timings by what was timed.
    """
    result = {
        "benchmark": name,
        "command": command,
        "hardware": hardware(),
        "versions": tool_versions(DISTRIBUTIONS),
        "figures": dict(figures),
        "seconds": {key: asdict(value) for key, value in timings.items()},
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(result, indent=2) + "\n"
    (RESULTS / f"{name}.json").write_text(text)
    return text
