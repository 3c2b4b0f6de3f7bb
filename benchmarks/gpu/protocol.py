"""What the conductor and its contestants tell each other; the standard library is all it takes.

Each contestant runs in a process of its own, perhaps with another Python: it gets a job as JSON and
appends what it measured, line by line, to a file, so that a crash costs no more than one case.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

STAGES = ("text_encoder", "unet", "vae_decoder")

_STARTED = time.perf_counter()
"""Before a contestant imports what it runs on, which comes after this module."""


@dataclass(frozen=True)
class Case:
    """Pictures made together: so many of `size` by `size` pixels, in so many steps."""

    size: int
    batch: int
    steps: int


@dataclass(frozen=True)
class Job:
    """What a contestant is to do.

    Attributes:
        kind: the contestant's name within its module.
        bundle: the bundle's directory.
        model: the fused model's, which the bundle was exported from.
        device: "cuda" or "cpu".
        cases: in the order in which they are measured.
        runs: of each case, after one that is not counted.
        seconds: of one case, after which no further run is started once there are three.
        results: the file that lines are appended to.
        pictures: the directory for one picture of each size and number of steps.
    """

    kind: str
    bundle: str
    model: str
    device: str
    cases: tuple[Case, ...]
    runs: int
    seconds: float
    results: str
    pictures: str
    prompt: str = "cracked skin, portrait of a woman"
    negative: str = "blurry"
    seed: int = 11
    cfg: float = 7.5

    def write(self, path: Path) -> None:
        """Write the job for `read_job`."""
        path.write_text(json.dumps(asdict(self)))


def read_job(path: Path) -> Job:
    """The job that the conductor wrote."""
    values = json.loads(path.read_text())
    return Job(**{**values, "cases": tuple(Case(**case) for case in values["cases"])})


@dataclass
class StageClock:
    """Seconds of each call of a stage, while it is on."""

    on: bool = False
    seconds: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Time a block as one call of a stage; what it starts must be finished when it ends."""
        started = time.perf_counter()
        yield
        if self.on:
            self.seconds.setdefault(stage, []).append(time.perf_counter() - started)


class Contestant(Protocol):
    """Something that makes pictures."""

    clock: StageClock

    def make(self, case: Case, prompt: str) -> list[Any]:
        """Make the pictures of a case, as Pillow's images, from the prompt to the pixels."""

    def recover(self) -> None:
        """Free what a failed case may have left."""


def measure_cases(job: Job, contestant: Contestant) -> None:
    """Measure every case of a job, and append each result, or why there is none."""
    for case in job.cases:
        try:
            result = _measure(job, contestant, case)
        except Exception as error:  # of whatever library; the next case may be smaller
            result = {"error": f"{type(error).__name__}: {str(error)[:600]}"}
            contestant.recover()
        append(job, {"case": asdict(case), **result})


def run_contestant(probe: Callable[[Job], dict[str, Any]], run: Callable[[Job], None]) -> None:
    """What a contestant's module does as a program, `probe|run JOB`: answer, or run the job."""
    job = read_job(Path(sys.argv[2]))
    if sys.argv[1] == "probe":
        print(json.dumps(probe(job)))
    else:
        run(job)


def tell_opened(job: Job, device: str) -> None:
    """Append the seconds since the start, imports included, and what the contestant runs on.

    Some load their graphs by then, and others for the first pictures: compare the sums.
    """
    append(job, {"opened": time.perf_counter() - _STARTED, "device": device})


def append(job: Job, line: dict[str, Any]) -> None:
    """Append one line to the job's results."""
    with Path(job.results).open("a") as file:
        file.write(json.dumps(line) + "\n")


def _measure(job: Job, contestant: Contestant, case: Case) -> dict[str, Any]:
    """One run that is not counted, the counted ones, and one that times the stages.

    Each run has a prompt of its own, so that nobody's cache of prompts takes part.
    """
    own = f"{job.prompt}, {case.size}, {case.batch}, {case.steps}"
    contestant.clock.on = False
    started = time.perf_counter()
    pictures = contestant.make(case, job.prompt)
    first = time.perf_counter() - started
    if case.batch == 1:
        name = f"{job.kind}-{case.size}-{case.steps}.png"
        pictures[0].save(Path(job.pictures) / name)
    seconds: list[float] = []
    while len(seconds) < job.runs and (len(seconds) < 3 or sum(seconds) < job.seconds):
        started = time.perf_counter()
        contestant.make(case, f"{own}, {len(seconds)}")
        seconds.append(time.perf_counter() - started)
    contestant.clock.seconds = {}
    contestant.clock.on = True
    contestant.make(case, f"{own}, stages")
    contestant.clock.on = False
    return {"first": first, "seconds": seconds, "stages": contestant.clock.seconds}
