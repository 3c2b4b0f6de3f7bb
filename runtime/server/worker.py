"""The worker: the one thread that calls the engines, one action of the scheduler at a time."""

import logging
import math
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from engines.errors import UserError
from runtime.pipeline import Pipeline
from runtime.png import Picture
from runtime.samplers.table import Table
from runtime.server.capacity import Capacity
from runtime.server.faults import Fault, FaultError, Kind, fault_of
from runtime.server.jobs import Job, State
from runtime.server.logs import logged_under
from runtime.server.metrics import Metrics
from runtime.server.scheduler import Action, Advance, Finish, Scheduler, Start, Ticket
from runtime.server.stages import Run, Stages, cost_of_row

log = logging.getLogger(__name__)

MAX_FAILURES = 3
"""Failures of engines in a row after which the server counts as not ready."""

PREVIEW_SECONDS = 0.25
"""How often a job that someone looks at shows what it is at: each time costs a millisecond."""

PROBE_SECONDS = 10.0
"""How often engines that keep failing are tried again while there is nothing to do."""


class Worker:
    """Takes jobs from any thread and makes their pictures in its own.

    Attributes:
        capacity: what was measured at the start; None before.
        error: why the worker ended by itself: the engines were not loaded, or a mistake of ours.
    """

    def __init__(self, pipeline: Pipeline, slots: int, queue: int, metrics: Metrics) -> None:
        """Prepare to serve `pipeline`, which the worker closes when it stops.

        Args:
            pipeline: nobody else calls its engines.
            slots: pictures denoised at once, 0 to measure it.
            queue: pictures that may wait for a slot.
            metrics: where figures go.
        """
        self.capacity: Capacity | None = None
        self.error: Exception | None = None
        self._wanted_slots = slots
        self._queue = queue
        self._metrics = metrics
        self._stages = Stages(pipeline, metrics)
        self._scheduler = Scheduler(1)
        self._runs: dict[Ticket, Run] = {}
        self._early_stops: list[tuple[Job, bool]] = []
        self._stopping = False
        self._changed = threading.Condition()
        self._png = ThreadPoolExecutor(1, "png")
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        for name, text, read in (
            ("queue_pictures", "Pictures that wait", lambda: len(self._scheduler.waiting)),
            ("slots_used", "Pictures being denoised", lambda: len(self._scheduler.running)),
            ("slots", "Pictures denoised at once at most", lambda: self._scheduler.slots),
        ):
            metrics.observe_gauge(f"fracture_{name}", text, read)

    @property
    def slots(self) -> int:
        """Pictures denoised at once at most."""
        return self._scheduler.slots

    def start(self) -> None:
        """Load and warm the engines up, then serve, in a thread of its own."""
        self._thread.start()

    def submit(self, job: Job, tables: Iterable[Table]) -> None:
        """Let a job's pictures wait for slots.

        Args:
            job: a new one.
            tables: the sampler's table of each of its pictures, for the first pass.

        Raises:
            FaultError: the queue is full, or the server is stopping.
        """
        runs = [Run(job, index, table, _ticket(job, index)) for index, table in enumerate(tables)]
        with self._changed:
            if self._stopping:
                raise FaultError(Fault(Kind.UNAVAILABLE, "The server is stopping."))
            waiting = len(self._scheduler.waiting)
            if waiting + len(runs) > self._queue:
                raise FaultError(
                    Fault(
                        Kind.BUSY,
                        f"{waiting} pictures are waiting and {self._queue} is the most: "
                        f"{len(runs)} more do not fit. Try again later.",
                        retry_after=self._seconds_until_room(waiting + len(runs) - self._queue),
                    )
                )
            self._runs.update((run.ticket, run) for run in runs)
            self._scheduler.submit(run.ticket for run in runs)
            self._changed.notify()

    def end(self, job: Job, state: State, fault: Fault | None = None) -> None:
        """End a job from any thread; its pictures leave before the next row."""
        now = time.monotonic()
        if job.end(state, now, fault):
            self._metrics.jobs.labels(state.value).inc()
            self._metrics.stage.labels("total").observe(now - job.created)
            seconds, why = now - job.created, f": {fault.message}" if fault else ""
            fields = {"job": job.id, "state": state.value, "seconds": round(seconds, 4)}
            with logged_under(job.request_id):
                log.info(
                    "job %s %s after %.2f s%s",
                    *(job.id, state.value, seconds, why),
                    extra={"fields": fields},
                )
        with self._changed:
            self._changed.notify()

    def stop_early(self, job: Job, *, only_current: bool) -> None:
        """Finish a job's pictures as they are now, and drop those that have not begun.

        Args:
            job: any job.
            only_current: leave those alone that have not begun.
        """
        with self._changed:
            self._early_stops.append((job, only_current))
            self._changed.notify()

    def why_not_ready(self, stall_seconds: float) -> str | None:
        """Why no requests should come here now, or None.

        Args:
            stall_seconds: how long one call of an engine may take.
        """
        call, failures = self._stages.call, self._failures
        if self.error is not None and self.capacity is None:
            return f"the engines could not be loaded: {self.error}"
        if not self._thread.is_alive():
            return "the worker is not running"
        if self.capacity is None:
            return "the engines are being loaded"
        if call is not None and time.monotonic() - call.began > stall_seconds:
            return f"a call of the engine ({call.stage}) is stuck for over {stall_seconds:g} s"
        if failures >= MAX_FAILURES:
            return f"the last {failures} calls of the engine failed"
        return None

    def stop(self, timeout: float) -> None:
        """End all jobs, let the current call return, and close the engines.

        Args:
            timeout: seconds to wait for the current call; a stuck one is left alone.
        """
        self._abandon("The server is stopping.")
        if self._thread.ident is not None:
            self._thread.join(timeout)
        self._png.shutdown(wait=not self._thread.is_alive())

    def _work(self) -> None:
        try:
            capacity = self._stages.prepare(self._wanted_slots)
            self._scheduler.slots = capacity.slots
            self.capacity = capacity
            while (action := self._next_action()) is not None:
                self._do(action)
        except Exception as error:
            self.error = error
            if not isinstance(error, UserError):
                log.exception("the worker ended")
        finally:
            self._abandon("The server's worker has ended.")
            self._stages.close()

    @property
    def _failures(self) -> int:
        """Failures in a row of the stage that fails most."""
        return max(dict(self._stages.failures).values(), default=0)

    def _abandon(self, message: str) -> None:
        """Take no more jobs, and end those that there are."""
        with self._changed:
            self._stopping = True
            jobs = {run.job for run in self._runs.values()}
            self._changed.notify()
        for job in jobs:
            self.end(job, State.CANCELLED, Fault(Kind.UNAVAILABLE, message))

    def _next_action(self) -> Action | None:
        """What to do now, after waiting for it; None where the worker is to stop."""
        while True:
            with self._changed:
                self._drop_ended()
                self._apply_early_stops()
                if self._stopping:
                    return None
                action = self._scheduler.next_action(time.monotonic())
                if action is not None:
                    return action
                failing = self._failures >= MAX_FAILURES
                notified = self._changed.wait(PROBE_SECONDS if failing else None)
            if failing and not notified:
                self._probe()

    def _do(self, action: Action) -> None:
        match action:
            case Start(tickets):
                self._start([self._runs[ticket] for ticket in tickets])
            case Advance():
                self._advance()
            case Finish(ticket):
                self._finish(self._runs[ticket])
        self._scheduler.slots = self._stages.slots

    def _start(self, runs: list[Run]) -> None:
        runs[0].job.start(time.monotonic())
        for run, error in self._stages.start(runs):
            self._fail(run, error)

    def _advance(self) -> None:
        before = [(self._runs[ticket], self._row(ticket)) for ticket in self._scheduler.running]
        row = self._stages.advance()
        with self._changed:
            for run in row.finished:
                self._scheduler.mark_denoised(run.ticket)
        for run, error in row.failed:
            self._fail(run, error)
        advanced: dict[Job, int] = {}
        firsts: dict[Job, Run] = {}
        for run, at in before:
            advanced[run.job] = advanced.get(run.job, 0) + self._row(run.ticket) - at
            firsts.setdefault(run.job, run)
        now = time.monotonic()
        for job, rows in advanced.items():
            shown = None
            if job.wants_previews and now - job.previewed >= PREVIEW_SECONDS:
                job.previewed = now
                shown = self._preview(firsts[job])
            job.add_rows(rows, shown)

    def _preview(self, run: Run) -> bytes | None:
        try:
            return self._stages.preview(run)
        except Exception:  # the picture itself may well be finished
            with logged_under(run.job.request_id):
                log.exception("job %s: no more pictures in progress", run.job.id)
            run.job.wants_previews = False
            return None

    def _finish(self, run: Run) -> None:
        try:
            picture = self._stages.finish(run)
        except Exception as error:  # it ends this job, not the worker
            self._fail(run, error)
            return
        if picture is None:
            with self._changed:
                self._scheduler.resume(run.ticket)
            return
        self._forget(run)
        self._metrics.pictures.inc()
        self._png.submit(self._deliver, run.job, run.index, picture)

    def _deliver(self, job: Job, index: int, picture: Picture) -> None:
        """In a thread beside the worker's, for compression takes as long as some rows."""
        try:
            with self._metrics.stage.labels("png").time():
                png = picture.png()
            if job.deliver(index, png):
                self.end(job, State.DONE)
        except Exception as error:
            with logged_under(job.request_id):
                log.exception("job %s: a picture could not be written", job.id)
            self.end(job, State.FAILED, fault_of(error))

    def _fail(self, run: Run, error: Exception) -> None:
        if not isinstance(error, UserError):
            with logged_under(run.job.request_id):
                log.error("job %s failed", run.job.id, exc_info=error)
        self.end(run.job, State.FAILED, fault_of(error))
        self._forget(run)

    def _forget(self, run: Run) -> None:
        with self._changed:
            self._scheduler.discard(run.ticket)
            self._runs.pop(run.ticket, None)

    def _drop_ended(self) -> None:
        """Let the runs of jobs leave that have failed or were cancelled."""
        for run in [run for run in self._runs.values() if run.job.status.ended]:
            self._stages.leave(run)
            self._forget(run)

    def _apply_early_stops(self) -> None:
        stops, self._early_stops = self._early_stops, []
        for job, only_current in stops:
            for run in [run for run in self._runs.values() if run.job is job]:
                if run.slot is not None and run.ticket in self._scheduler.running:
                    run.stopped = True
                    self._stages.leave(run)
                    self._scheduler.mark_denoised(run.ticket)
                elif run.ticket in self._scheduler.waiting and not only_current:
                    self._forget(run)
                    if job.drop(run.index):
                        self.end(job, State.DONE)

    def _probe(self) -> None:
        try:
            self._stages.probe()
        except Exception as error:  # readiness says so
            log.warning("the engines still fail: %s", error)

    def _row(self, ticket: Ticket) -> int:
        run = self._runs.get(ticket)
        return run.slot.row if run is not None and run.slot is not None else 0

    def _seconds_until_room(self, pictures: int) -> int:
        """How long it takes at the pace so far until `pictures` more have got a slot."""
        waiting = self._scheduler.waiting
        mean = math.fsum(ticket.cost for ticket in waiting) / max(1, len(waiting))
        return max(1, math.ceil(pictures * mean * self._stages.seconds_per_cost))


def _ticket(job: Job, index: int) -> Ticket:
    """Its cost is that of all its rows, as if they were of its last size."""
    settings = job.settings[index]
    last = settings.hires or settings
    cost = job.rows[index] * cost_of_row(last.width, last.height)
    return Ticket(job.id, job.client, job.priority, cost, job.created)
