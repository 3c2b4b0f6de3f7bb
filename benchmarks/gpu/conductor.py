"""Runs the contestants, each in a process of its own, and keeps what each has measured.

What a contestant has measured is in a file of its own as soon as it ends, however it ends, so that
contestants can be run one at a time, on a machine that is only lent for minutes.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.gpu.contestants import Entrant
from benchmarks.gpu.memory import PeakMemory, ReadMemory
from benchmarks.gpu.protocol import Job

REPOSITORY = Path(__file__).parents[2]
PROBE_SECONDS = 180
DONE = "done"


@dataclass(frozen=True)
class Readiness:
    """Whether a contestant can run: `reason` is empty where it can."""

    entrant: Entrant
    python: str
    reason: str
    device: str
    versions: Mapping[str, str]


def probe(entrant: Entrant, python: str, job: Job, scratch: Path) -> Readiness:
    """Ask a contestant, in a process of its own, whether it can run."""
    path = scratch / f"{entrant.name}.job.json"
    job = replace(job, kind=entrant.name, cases=entrant.cases(job.cases))
    job.write(path)
    try:
        process = subprocess.run(
            [python, "-m", entrant.module, "probe", str(path)],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            env=_environment(),
            cwd=scratch,
            check=False,
        )
        answer = json.loads(process.stdout.strip().splitlines()[-1])
    except FileNotFoundError:
        answer = {"reason": f"there is no Python at {python}"}
    except subprocess.TimeoutExpired:
        answer = {"reason": f"no answer to a probe within {PROBE_SECONDS} s"}
    except (IndexError, ValueError):
        last = _last_line(process.stderr)
        answer = {"reason": f"its probe ended with status {process.returncode}: {last}"}
    reason = "" if answer.get("ready") else answer["reason"]
    versions = answer.get("versions", {})
    return Readiness(entrant, python, reason, answer.get("device", ""), versions)


def run(
    readiness: Readiness, job: Job, out: Path, timeout: float, memory: ReadMemory | None
) -> dict[str, Any]:
    """Run a contestant to its end, its crash or the timeout; `collect` has what it measured.

    Args:
        readiness: a contestant that can run.
        job: what all contestants do.
        out: gets NAME.json on the run, NAME.jsonl with the measurements, NAME.log with what the
            contestant wrote, and its pictures.
        timeout: seconds after which it is ended.
        memory: reads the GPU's memory in use, where that is possible.
    """
    entrant = readiness.entrant
    results = out / f"{entrant.name}.jsonl"
    results.unlink(missing_ok=True)
    job = replace(
        job,
        kind=entrant.name,
        cases=entrant.cases(job.cases),
        results=str(results),
        pictures=str(out),
    )
    path = out / f"{entrant.name}.job.json"
    job.write(path)
    watch = PeakMemory(memory) if memory else None
    record: dict[str, Any] = {
        "name": entrant.name,
        "what": entrant.what,
        "device": readiness.device,
        "versions": dict(readiness.versions),
        "wanted": [asdict(case) for case in job.cases],
        "ended": "the benchmark was ended before it",
        "wall": None,
        "peak_gpu_bytes": None,
    }
    _write(out, record)
    started = time.perf_counter()
    with (out / f"{entrant.name}.log").open("w+") as log, watch or contextlib.nullcontext():
        process = subprocess.Popen(
            [readiness.python, "-m", entrant.module, "run", str(path)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(),
            cwd=out,
        )
        ended = _wait(process, timeout)
        log.seek(0)
        last = _last_line(log.read())
    record["ended"] = ended if ended == DONE else f"{ended}: {last}"
    record["wall"] = round(time.perf_counter() - started, 1)
    record["peak_gpu_bytes"] = watch.peak if watch else None
    _write(out, record)
    return record


def collect(out: Path, name: str) -> dict[str, Any] | None:
    """What a contestant has left in `out`, however it ended; None where it never started."""
    path = out / f"{name}.json"
    if not path.exists():
        return None
    record: dict[str, Any] = json.loads(path.read_text())
    lines = _read(out / f"{name}.jsonl")
    record["opened"] = next((line["opened"] for line in lines if "opened" in line), None)
    record["cases"] = [line for line in lines if "case" in line]
    return record


def _write(out: Path, record: dict[str, Any]) -> None:
    (out / f"{record['name']}.json").write_text(json.dumps(record, indent=2) + "\n")


def _wait(process: "subprocess.Popen[bytes]", timeout: float) -> str:
    try:
        status = process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f"ended after {timeout:.0f} s"
    except BaseException:
        process.kill()
        raise
    return DONE if status == 0 else f"ended with status {status}"


def _read(path: Path) -> list[dict[str, Any]]:
    """The lines that were written whole."""
    lines = []
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    return lines


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore"}


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "it wrote nothing")


def python_for(name: str, pythons: Mapping[str, str]) -> str:
    """The Python that runs a contestant: its own, or this one."""
    return pythons.get(name, sys.executable)
