"""This package and its peers on one GPU: latency, throughput, stages, memory, the same picture?

    python -m benchmarks.gpu BUNDLE FUSED --out DIR --preflight     what would run, what is missing
    python -m benchmarks.gpu BUNDLE FUSED --out DIR                 run it
    python -m benchmarks.gpu BUNDLE FUSED --out DIR --only cuda     one more contestant

BUNDLE is what `convert export` made of the diffusers directory FUSED, with plans where TensorRT is
to take part (`convert build`). Each contestant runs in a process of its own; what it has measured
is kept in DIR however it ends, and every run of this command reports on all of DIR, so that one may
run the contestants one by one. A contestant whose packages are in another environment gets its
Python with --python NAME=PATH.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu import conductor, memory, report
from benchmarks.gpu.contestants import ENTRANTS, ON_CPU, Entrant
from benchmarks.gpu.protocol import Case, Job
from benchmarks.measure import hardware
from engines.cuda_driver import no_gpu_reason, probe_driver

SIZES, BATCHES, STEPS = (512, 768), (1, 2, 4, 8), (20, 50)


def main(arguments: Sequence[str] | None = None) -> int:
    """Probe, run, report; exit status 1 if not one of the contestants can run."""
    options = _parse(arguments)
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    reason = no_gpu_reason()
    if options.device == "cuda" and reason:
        print(f"There is no GPU: {reason}. To try the harness without one: --device cpu.")
        return 1
    job = Job(
        kind="",
        bundle=str(options.bundle.resolve()),
        model=str(options.fused.resolve()),
        device=options.device,
        cases=tuple(
            Case(size, batch, steps)
            for size in options.sizes
            for batch in options.batches
            for steps in options.steps
        ),
        runs=options.runs,
        seconds=options.seconds,
        results="",
        pictures="",
    )
    ready, absent = _preflight(_entrants(options.only), options.python, job, out)
    if options.preflight or not ready:
        return 0 if ready else 1
    reader = memory.open_nvml()
    if isinstance(reader, str):
        _say(f"The GPU's memory cannot be watched: {reader}")
    for each in ready:
        _say(f"{each.entrant.name}: {len(each.entrant.cases(job.cases))} cases")
        watch = None if isinstance(reader, str) else reader
        result = conductor.run(each, job, out, options.timeout, watch)
        _say(f"{each.entrant.name}: {result['ended']}, {result['wall']} s")
        _report(out, absent)
    print((out / "gpu.md").read_text())
    return 0


def _preflight(
    entrants: Sequence[Entrant], pythons: Mapping[str, str], job: Job, out: Path
) -> tuple[list[conductor.Readiness], dict[str, str]]:
    """Ask every contestant whether it can run, and say what will run and what is missing."""
    ready: list[conductor.Readiness] = []
    absent: dict[str, str] = {}
    for entrant in entrants:
        each = conductor.probe(entrant, conductor.python_for(entrant.name, pythons), job, out)
        if each.reason:
            absent[entrant.name] = each.reason
            _say(f"absent  {entrant.name}: {each.reason}")
        else:
            ready.append(each)
            versions = ", ".join(f"{name} {version}" for name, version in each.versions.items())
            cases = len(entrant.cases(job.cases))
            _say(f"ready   {entrant.name}: {cases} cases on {each.device} ({versions})")
    return ready, absent


def _report(out: Path, absent: Mapping[str, str]) -> None:
    """Write gpu.json and gpu.md from everything that contestants have left in `out`."""
    left = [conductor.collect(out, entrant.name) for entrant in ENTRANTS]
    results = [result for result in left if result is not None]
    measured = {result["name"] for result in results}
    absent = {name: reason for name, reason in absent.items() if name not in measured}
    machine = _machine()
    pictures = report.compare_pictures(out, results)
    value = {
        "benchmark": "gpu",
        "machine": machine,
        "results": results,
        "rows": report.summarise(results),
        "pictures": pictures,
        "absent": absent,
    }
    (out / "gpu.json").write_text(json.dumps(value, indent=2) + "\n")
    (out / "gpu.md").write_text(report.render(machine, results, absent, pictures))


def _machine() -> dict[str, Any]:
    """The hardware, the driver, and the state that nvidia-smi tells."""
    machine: dict[str, Any] = {**hardware()}
    if no_gpu_reason() is None:
        driver = probe_driver()
        machine["gpu"] = driver.gpus[0].name
        machine["gpu_memory_gib"] = round(driver.gpus[0].memory / 2**30, 1)
        machine["driver_cuda"] = ".".join(map(str, driver.cuda))
        machine["nvidia_smi"] = _nvidia_smi()
    return machine


def _nvidia_smi() -> str:
    fields = "driver_version,clocks.sm,clocks.max.sm,power.limit,temperature.gpu,persistence_mode"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"{fields}: {error}"
    return f"{fields}: {process.stdout.strip()}"


def _entrants(names: Sequence[str]) -> list[Entrant]:
    if not names:
        return [entrant for entrant in ENTRANTS if entrant.name not in ON_CPU]
    return [entrant for entrant in ENTRANTS if entrant.name in names]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("fused", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="where everything is kept")
    parser.add_argument("--preflight", action="store_true", help="only say what would run")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        choices=[entrant.name for entrant in ENTRANTS],
        help=f"of {', '.join(entrant.name for entrant in ENTRANTS)}; default: all on the GPU",
    )
    parser.add_argument(
        "--python",
        action=_Pythons,
        default={},
        metavar="NAME=PATH",
        help="the Python that runs a contestant; may be given several times",
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="of the peers")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, metavar="PIXELS")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES, metavar="N")
    parser.add_argument("--steps", nargs="+", type=int, default=STEPS, metavar="N")
    parser.add_argument("--runs", type=int, default=10, help="counted runs of each case")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="of a case, after which three runs are enough"
    )
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds of one contestant")
    return parser.parse_args(arguments)


class _Pythons(argparse.Action):
    """Collects NAME=PATH."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        name, _, path = str(values).partition("=")
        if name not in {entrant.name for entrant in ENTRANTS} or not path:
            parser.error(f"{option_string} takes NAME=PATH of a contestant, not {values!r}")
        setattr(namespace, self.dest, {**getattr(namespace, self.dest), name: path})


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
