"""The stages of a picture on the engines, and what happens where one of them fails.

Only the worker's thread calls what is here, but for `call` and `failures`, which the watchdog
reads.
"""

import contextlib
import dataclasses
import io
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from engines.errors import BackendError, InternalError, OutOfMemoryError
from runtime.pipeline import Pipeline
from runtime.png import Picture
from runtime.preview import preview
from runtime.request import Settings
from runtime.samplers.table import Table
from runtime.server.capacity import ENTRIES, Capacity, measure_capacity, warm_up
from runtime.server.jobs import Job
from runtime.server.metrics import Metrics
from runtime.server.scheduler import Ticket
from runtime.slot import NonFinitePredictionError, Slot

log = logging.getLogger(__name__)

_PACE = 0.1
"""How much the newest row counts in the running mean of the engine's pace."""


@dataclass(eq=False)
class Run:
    """One picture of a job on its way through the stages.

    Attributes:
        job: whose picture it is.
        index: which of the job's.
        table: the sampler's, of its first pass.
        ticket: its place in the queue.
        slot: its run in the denoiser, once it has begun.
        began: when that was, on the monotonic clock.
        stopped: whether it is finished as it is, before its last row.
    """

    job: Job
    index: int
    table: Table
    ticket: Ticket
    slot: Slot | None = None
    began: float = 0.0
    stopped: bool = False

    @property
    def settings(self) -> Settings:
        """What it is made of; one that is stopped has no second pass."""
        settings = self.job.settings[self.index]
        return dataclasses.replace(settings, hires=None) if self.stopped else settings


@dataclass(frozen=True)
class Call:
    """The call of an engine that is being made: its stage, and since when."""

    stage: str
    began: float


@dataclass
class Row:
    """What became of the runs at one row: those that are finished, those that failed and why."""

    finished: list[Run] = field(default_factory=list)
    failed: list[tuple[Run, Exception]] = field(default_factory=list)


def _cost_of_slot(slot: Slot) -> float:
    """As `cost_of_row`, for latents an eighth as wide and high as the picture."""
    return float(np.prod(slot.latents.shape[1:])) / 8**2


def cost_of_row(width: int, height: int) -> float:
    """The work of a row of a picture of that many pixels, in units of 64 by 64 of them."""
    return width * height / 64**2


class Stages:
    """A pipeline's engines, called for runs.

    Attributes:
        slots: pictures denoised at once at most; fewer after memory was short.
        call: the call that is being made, if any.
        failures: by stage, calls that have failed since the last that did not.
        seconds_per_cost: the pace of denoising, for estimates: seconds for one picture's row, per
            unit of its size.
    """

    def __init__(self, pipeline: Pipeline, metrics: Metrics) -> None:
        self.slots = 1
        self.call: Call | None = None
        self.failures: Counter[str] = Counter()
        self.seconds_per_cost = 0.0
        self._pipeline = pipeline
        self._metrics = metrics
        self._running: dict[Slot, Run] = {}

    def prepare(self, slots: int) -> Capacity:
        """Load the engines, warm them up, and find out how many slots there should be.

        Args:
            slots: how many, or 0 to measure it.

        Raises:
            BackendError: an engine cannot be loaded or fails.
        """
        with self._calling("start", timed=False):
            capacity = measure_capacity(self._pipeline, slots)
        self.slots = capacity.slots
        defaults = self._pipeline.bundle.manifest.defaults
        size = capacity.slots * cost_of_row(defaults.width, defaults.height)
        self._learn_pace(capacity.seconds_per_row[capacity.slots] / size)
        return capacity

    def probe(self) -> None:
        """Call every engine once, to see whether they work again.

        Raises:
            BackendError: they do not.
        """
        with self._calling("probe", timed=False):
            warm_up(self._pipeline)
        self.failures.clear()

    def start(self, runs: Sequence[Run]) -> list[tuple[Run, Exception]]:
        """Encode the text of runs of one job and let them join; returns those that failed."""
        failed: list[tuple[Run, Exception]] = []
        for i, run in enumerate(runs):
            run.began = time.monotonic()
            self._metrics.stage.labels("wait").observe(run.began - run.job.created)
            try:
                with self._calling("text"):
                    ahead = (other.settings for other in runs[i + 1 :])
                    run.slot = self._pipeline.start(run.settings, run.table, ahead)
                self._join(run, run.slot)
            except Exception as error:  # it ends this job, not the worker
                self._lower_if_short_of_memory(error)
                failed.append((run, error))
        return failed

    def advance(self) -> Row:
        """Advance every run by one row, unless its call fails."""
        denoiser, row = self._pipeline.denoiser, Row()
        began = time.monotonic()
        cost = sum(_cost_of_slot(slot) for slot in self._running)
        try:
            with self._calling("denoise", timed=False):
                finished = denoiser.advance()
        except Exception as error:  # it ends the jobs of that call, not the worker
            failed = denoiser.calling or tuple(self._running)
            if isinstance(error, NonFinitePredictionError):
                failed = (error.slot,)
            if self._lower_if_short_of_memory(error) and len(failed) > 1:
                return row  # they go on in smaller calls
            for slot in failed:
                row.failed.append((self._running.pop(slot), error))
                denoiser.remove(slot)
            return row
        now = time.monotonic()
        self._metrics.row.observe(now - began)
        self._metrics.rows.inc(len(self._running))
        self._learn_pace((now - began) / cost)
        row.finished = [self._running.pop(slot) for slot in finished]
        for run in row.finished:
            self._metrics.stage.labels("denoise").observe(now - run.began)
        return row

    def leave(self, run: Run) -> None:
        """Take a run out of the denoiser, where it is still there; its latents stay."""
        if run.slot is not None and self._running.pop(run.slot, None) is not None:
            self._pipeline.denoiser.remove(run.slot)

    def finish(self, run: Run) -> Picture | None:
        """Decode a run that has left the denoiser; None where it goes on with a second pass.

        Raises:
            BackendError: the engine fails, or the model overflowed.
        """
        if run.slot is None:
            raise InternalError("a run that never began cannot be decoded")
        try:
            with self._calling("decode"):
                following = self._pipeline.resume(run.slot.latents, run.settings)
                if following is None:
                    return self._pipeline.finish(run.slot.latents, run.settings)
        except Exception as error:
            self._lower_if_short_of_memory(error)
            raise
        run.slot = following
        self._join(run, following)
        return None

    def preview(self, run: Run) -> bytes | None:
        """What a run will look like, as a PNG file of one pixel for each latent.

        None before the first row since someone watches, and where the bundle has no map for it.
        """
        slot, factors = run.slot, self._pipeline.bundle.manifest.latents.preview
        if slot is None or not factors:
            return None
        if slot.clean is None:
            slot.watch()  # from the next row on
            return None
        if not slot.row:
            return None
        file = io.BytesIO()
        pixels = preview(slot.clean, factors)
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    def close(self) -> None:
        """Release the engines."""
        self._pipeline.close()

    def _join(self, run: Run, slot: Slot) -> None:
        if run.job.wants_previews and self._pipeline.bundle.manifest.latents.preview:
            slot.watch()
        self._pipeline.denoiser.add(slot)
        self._running[slot] = run

    @contextlib.contextmanager
    def _calling(self, stage: str, *, timed: bool = True) -> Iterator[None]:
        began = time.monotonic()
        self.call = Call(stage, began)
        try:
            yield
        except NonFinitePredictionError:
            self.failures[stage] = 0
            raise
        except BackendError:
            self.failures[stage] += 1
            self._metrics.engine_failures.labels(stage).inc()
            raise
        else:
            self.failures[stage] = 0
            if timed:
                self._metrics.stage.labels(stage).observe(time.monotonic() - began)
        finally:
            self.call = None

    def _learn_pace(self, seconds_per_cost: float) -> None:
        weight = _PACE if self.seconds_per_cost else 1.0
        self.seconds_per_cost += weight * (seconds_per_cost - self.seconds_per_cost)

    def _lower_if_short_of_memory(self, error: Exception) -> bool:
        """Halve the slots where memory was short; returns whether it was."""
        if not isinstance(error, OutOfMemoryError | MemoryError):
            return False
        self.slots = max(1, (len(self._running) or self.slots) // 2)
        self._pipeline.denoiser.resize(ENTRIES * self.slots)
        log.warning("memory was short; from now on %d pictures at once: %s", self.slots, error)
        return True
