"""The stages of pictures on the engines: before the denoiser, in it, and after it.

Only the worker's thread calls what is here.
"""

import io
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from engines.errors import InternalError, OutOfMemoryError
from runtime.batches import places_of
from runtime.calls import Calls
from runtime.pipeline import Pipeline
from runtime.png import Picture
from runtime.preview import preview
from runtime.server.capacity import ENTRIES, Capacity, default_area, measure_capacity, warm_up
from runtime.server.health import Health
from runtime.server.metrics import Metrics
from runtime.server.run import Run
from runtime.slot import NonFinitePredictionError, Slot

log = logging.getLogger(__name__)

_PACE = 0.1
"""How much the newest row counts in the running mean of the engine's pace."""


@dataclass
class Row:
    """What became of the runs at one row: those that are finished, those that failed and why."""

    finished: list[Run] = field(default_factory=list)
    failed: list[tuple[Run, Exception]] = field(default_factory=list)


class Stages:
    """A pipeline's engines, called for runs.

    Attributes:
        slots: pictures of the default size denoised at once at most; fewer after memory was short.
        seconds_per_cost: the pace of denoising, for estimates: seconds for the row of one picture
            of the default size with guidance.
    """

    def __init__(self, pipeline: Pipeline, metrics: Metrics, health: Health) -> None:
        """Call the engines of `pipeline`, and tell `metrics` and `health` of it."""
        self.slots = 1
        self.seconds_per_cost = 0.0
        self._pipeline = pipeline
        self._metrics = metrics
        self._health = health
        self._area = default_area(pipeline)
        self._running: dict[Slot, Run] = {}

    def prepare(self, slots: int) -> Capacity:
        """Load the engines, warm them up, and find out how many slots there should be.

        Args:
            slots: how many, or 0 to measure it.

        Raises:
            SettingError: the engines do not take that many.
            BackendError: an engine cannot be loaded or fails.
        """
        with self._health.calling("start", timed=False):
            capacity = measure_capacity(self._pipeline, slots)
        self.slots = capacity.slots
        self._learn_pace(capacity.seconds_per_row[capacity.slots] / capacity.slots)
        return capacity

    def probe(self) -> None:
        """Call every engine once, to see whether they work again.

        Raises:
            BackendError: they do not.
        """
        with self._health.calling("probe", timed=False):
            warm_up(self._pipeline)
        self._health.forgive()

    def start(self, runs: Sequence[Run]) -> Calls[None]:
        """What runs of one job need before they are denoised; each joins when it is ready.

        Their texts share the first call.

        Raises:
            BackendError: the engine fails, or the model overflowed.
        """
        for run in runs:
            run.began = time.monotonic()
            self._metrics.stage.labels("wait").observe(run.began - run.job.created)
        for i, run in enumerate(runs):
            ahead = (other.settings for other in runs[i + 1 :])
            slot = yield from self._pipeline.start(run.settings, run.table, ahead)
            self._join(run, slot)
            run.in_last_pass = run.settings.hires is None

    def advance(self) -> Row:
        """Advance every run by one row, unless its call fails."""
        denoiser, row = self._pipeline.denoiser, Row()
        began = time.monotonic()
        cost = sum(self._cost(slot) for slot in self._running)
        try:
            with self._health.calling("denoise", timed=False):
                finished = denoiser.advance()
        except Exception as error:  # it ends the jobs of that call, not the worker
            failed = denoiser.calling or tuple(self._running)
            if isinstance(error, NonFinitePredictionError):
                failed = (error.slot,)
            if isinstance(error, OutOfMemoryError | MemoryError) and self._make_smaller(failed):
                log.warning("memory was short; now %d pictures at once: %s", self.slots, error)
                return row
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
            if not run.returns:
                self._metrics.stage.labels("denoise").observe(now - run.began)
        return row

    def leave(self, run: Run) -> None:
        """Take a run out of the denoiser, where it is still there; its latents stay."""
        if run.slot is not None and self._running.pop(run.slot, None) is not None:
            self._pipeline.denoiser.remove(run.slot)

    def finish(self, run: Run) -> Calls[Picture | None]:
        """What a run needs that has left the denoiser: its picture, or None for its second pass.

        Raises:
            BackendError: the engine fails, or the model overflowed.
        """
        if run.slot is None:
            raise InternalError("a run that never began cannot be decoded")
        if not run.returns:
            return (yield from self._pipeline.finish(run.slot.latents, run.settings))
        following = yield from self._pipeline.resume(run.slot.latents, run.settings)
        if following is None:
            raise InternalError("a picture with hires fix has no second pass")
        run.earlier = run.slot
        self._join(run, following)
        run.in_last_pass = True
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
        run.slot = slot

    def _cost(self, slot: Slot) -> float:
        """The work of a run's row, in those of a picture of the default size with guidance."""
        _, height, width = slot.latents.shape
        return float(slot.entries / ENTRIES * height * width / self._area)

    def _learn_pace(self, seconds_per_cost: float) -> None:
        weight = _PACE if self.seconds_per_cost else 1.0
        self.seconds_per_cost += weight * (seconds_per_cost - self.seconds_per_cost)

    def _make_smaller(self, called: Sequence[Slot]) -> bool:
        """Halve what a call takes, after one for which memory was short; returns whether it helps.

        It helps only where several pictures were in that call, which then go on in smaller ones.
        """
        taken = sum(places_of(slot, self._area) for slot in called)
        slots = max(1, int(taken / ENTRIES / 2))
        if len(called) < 2 or ENTRIES * slots >= taken:
            return False
        self.slots = min(self.slots, slots)
        self._pipeline.denoiser.resize(ENTRIES * self.slots, self._area)
        return True
