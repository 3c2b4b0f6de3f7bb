"""The worker: the one thread that calls the engines, one action of the scheduler at a time."""

import logging
import threading
import time

from engines.errors import UserError
from runtime.pipeline import Pipeline
from runtime.samplers.table import Table
from runtime.server.capacity import Capacity
from runtime.server.delivery import Delivery
from runtime.server.faults import Fault, Kind, fault_of
from runtime.server.health import Health
from runtime.server.jobs import Job, State
from runtime.server.logs import logged_under
from runtime.server.metrics import Metrics
from runtime.server.progress import Progress
from runtime.server.run import Run, make_runs
from runtime.server.run_queue import RunQueue
from runtime.server.scheduler import Action, Advance, Finish, Start
from runtime.server.stages import Stages
from runtime.server.task import Task

log = logging.getLogger(__name__)

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
        self._metrics = metrics
        self._defaults = pipeline.bundle.manifest.defaults
        self._queue = RunQueue(queue)
        self._scheduler = self._queue.scheduler
        self._health = Health(metrics)
        self._stages = Stages(pipeline, metrics, self._health)
        self._progress = Progress(self._stages.preview)
        self._delivery = Delivery(metrics, self.end)
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        for name, text, read in (
            ("queue_pictures", "Pictures that wait", lambda: len(self._scheduler.waiting)),
            ("slots_used", "Pictures that have a slot", lambda: len(self._scheduler.holding)),
            ("slots", "Pictures denoised at once at most", lambda: self.slots),
        ):
            metrics.observe_gauge(f"fracture_{name}", text, read)

    @property
    def slots(self) -> int:
        """Pictures of the default size denoised at once at most."""
        return self._scheduler.slots

    def start(self) -> None:
        """Load and warm the engines up, then serve, in a thread of its own."""
        self._thread.start()

    def submit(self, job: Job, table: Table, entries: int) -> None:
        """Let a job's pictures wait for slots.

        Args:
            job: a new one.
            table: the sampler's, for the first pass of each of its pictures.
            entries: of the UNet's batch, as many as each of its pictures takes.

        Raises:
            FaultError: the queue is full, or the server is stopping.
        """
        runs = make_runs(job, table, entries, self._defaults)
        self._queue.submit(runs, self._stages.seconds_per_cost)

    def end(self, job: Job, state: State, fault: Fault | None = None) -> None:
        """End a job from any thread; its pictures leave before the next call of an engine."""
        now = time.monotonic()
        if job.end(state, now, fault):
            seconds, why = now - job.created, f": {fault.message}" if fault else ""
            self._metrics.jobs.labels(state.value).inc()
            self._metrics.job.labels(state.value).observe(seconds)
            fields = {"job": job.id, "state": state.value, "seconds": round(seconds, 4)}
            with logged_under(job.request_id):
                log.info(
                    "job %s %s after %.2f s%s",
                    *(job.id, state.value, seconds, why),
                    extra={"fields": fields},
                )
        self._queue.wake()

    def stop_early(self, job: Job, *, only_current: bool) -> None:
        """Finish a job's pictures as they are now, and drop those of which there is nothing yet.

        Args:
            job: any job.
            only_current: leave those alone of which there is nothing yet.
        """
        self._queue.stop_early(job, only_current=only_current)

    def why_not_ready(self, stall_seconds: float) -> str | None:
        """Why no requests should come here now, or None.

        Args:
            stall_seconds: how long one call of an engine may take.
        """
        if self.error is not None and self.capacity is None:
            return f"the engines could not be loaded: {self.error}"
        if not self._thread.is_alive():
            return "the worker is not running"
        if self.capacity is None:
            return "the engines are being loaded"
        return self._health.why_not_ready(stall_seconds)

    def stop(self, timeout: float) -> None:
        """End all jobs, let the current call return, and close the engines.

        Args:
            timeout: seconds to wait for the current call; a stuck one is left alone.
        """
        self._abandon("The server is stopping.")
        if self._thread.ident is not None:
            self._thread.join(timeout)
        if not self._thread.is_alive():  # else the call may still bring a picture
            self._delivery.close()

    def _work(self) -> None:
        try:
            log.info("loading the engines")
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

    def _abandon(self, message: str) -> None:
        """Take no more jobs, and end those that there are."""
        for job in self._queue.close():
            self.end(job, State.CANCELLED, Fault(Kind.UNAVAILABLE, message))

    def _next_action(self) -> Action | None:
        """What to do now, after waiting for it; None where the worker is to stop."""
        while True:
            self._see()
            if self._queue.closed:
                return None
            action = self._queue.next_action()
            if action is not None:
                return action
            failing = self._health.failing
            changed = self._queue.wait(PROBE_SECONDS if failing else None)
            if failing and not changed:
                self._probe()

    def _see(self) -> None:
        """Take out what has ended, and what is to end early."""
        for run in self._queue.see():
            if run.job.status.ended:
                self._drop(run)
        for job, only_current in self._queue.take_early_stops():
            self._stop_early(job, only_current=only_current)

    def _do(self, action: Action) -> None:
        match action:
            case Start(tickets):
                self._start([self._queue.run_of(ticket) for ticket in tickets])
            case Advance():
                self._advance()
            case Finish(ticket):
                self._finish(self._queue.run_of(ticket))
        self._scheduler.slots = self._stages.slots

    def _start(self, runs: list[Run]) -> None:
        task = runs[0].task
        if task is None:
            runs[0].job.start(time.monotonic())
            task = Task(self._stages.start(runs), self._health)
            for run in runs:
                run.task = task
        if self._step(task, runs):
            for run in runs:
                if run.slot is not None:
                    run.task = None
                    self._scheduler.mark_joined(run.ticket)

    def _finish(self, run: Run) -> None:
        if run.task is None:
            run.task = Task(self._stages.finish(run), self._health)
        task = run.task
        if not self._step(task, [run]) or not task.done:
            return
        run.task = None
        if task.picture is None:
            self._scheduler.mark_joined(run.ticket)
        else:
            self._queue.forget(run)
            self._delivery.send(run.job, run.index, task.picture)

    def _step(self, task: Task, runs: list[Run]) -> bool:
        """Make the next call of a task for runs of one job; returns whether it succeeded."""
        called = True
        try:
            called = task.step()
        except Exception as error:  # it ends this job, not the worker
            for run in runs:
                self._fail(run, error)
            return False
        finally:
            if called:
                self._scheduler.mark_call()
        return True

    def _advance(self) -> None:
        runs = [self._queue.run_of(ticket) for ticket in self._scheduler.running]
        with self._progress.told(runs):
            row = self._stages.advance()
            for run in row.finished:
                self._scheduler.mark_denoised(run.ticket, returns=run.returns)
            for run, error in row.failed:
                self._fail(run, error)

    def _fail(self, run: Run, error: Exception) -> None:
        if not isinstance(error, UserError):
            with logged_under(run.job.request_id):
                log.error("job %s failed", run.job.id, exc_info=error)
        self.end(run.job, State.FAILED, fault_of(error))
        self._drop(run)

    def _drop(self, run: Run) -> None:
        if run.task is not None:
            run.task.close()
        self._stages.leave(run)
        self._queue.forget(run)

    def _stop_early(self, job: Job, *, only_current: bool) -> None:
        for run in self._queue.runs_of(job):
            if not run.shows:
                if only_current:
                    continue
                self._drop(run)
                if job.drop(run.index):
                    self.end(job, State.DONE)
            elif run.ticket in self._scheduler.running:
                self._stages.leave(run)
                run.stop()
                self._scheduler.mark_denoised(run.ticket)
            elif run.returns:
                run.stop()
                self._scheduler.mark_last(run.ticket)
                if run.task is not None:
                    run.task.close()
                    run.task = None

    def _probe(self) -> None:
        try:
            self._stages.probe()
        except Exception as error:  # readiness says so
            ours = not isinstance(error, UserError)
            log.warning("the engines still fail: %s", error, exc_info=ours)
