"""The queue: any thread puts pictures in, the worker's thread asks what to do for them next."""

import math
import threading
import time
from collections.abc import Iterable

from runtime.server.faults import Fault, FaultError, Kind
from runtime.server.jobs import Job
from runtime.server.run import Run
from runtime.server.scheduler import Action, Scheduler, Ticket


class RunQueue:
    """The pictures of jobs that have not ended, of which only so many may wait.

    Attributes:
        scheduler: for the worker's thread to say what came of an action; others read its figures.
        closed: whether no more pictures are taken.
    """

    def __init__(self, most_waiting: int) -> None:
        """Let at most `most_waiting` pictures wait for a slot."""
        self.scheduler = Scheduler(1)
        self.closed = False
        self._most_waiting = most_waiting
        self._runs: dict[Ticket, Run] = {}
        self._early_stops: list[tuple[Job, bool]] = []
        self._lock = threading.Lock()
        self._changed = threading.Event()

    def submit(self, runs: Iterable[Run], seconds_per_cost: float) -> None:
        """Let a job's pictures wait for slots.

        Args:
            runs: of a new job.
            seconds_per_cost: the pace so far, for an estimate of when there is room again.

        Raises:
            FaultError: the queue is full or closed.
        """
        by_ticket = {run.ticket: run for run in runs}
        with self._lock:
            if self.closed:
                raise FaultError(Fault(Kind.UNAVAILABLE, "The server is stopping."))
            waiting = self.scheduler.waiting
            too_many = len(waiting) + len(by_ticket) - self._most_waiting
            if too_many > 0:
                mean = math.fsum(ticket.cost for ticket in waiting) / max(1, len(waiting))
                raise FaultError(
                    Fault(
                        Kind.BUSY,
                        f"{len(waiting)} pictures are waiting and {self._most_waiting} is the "
                        f"most: {len(by_ticket)} more do not fit. Try again later.",
                        retry_after=max(1, math.ceil(too_many * mean * seconds_per_cost)),
                    )
                )
            self._runs.update(by_ticket)
            self.scheduler.submit(by_ticket)
        self.wake()

    def stop_early(self, job: Job, *, only_current: bool) -> None:
        """Ask the worker's thread to; see `take_early_stops`."""
        with self._lock:
            self._early_stops.append((job, only_current))
        self.wake()

    def close(self) -> set[Job]:
        """Take no more pictures; returns the jobs of those that there are."""
        with self._lock:
            self.closed = True
            jobs = {run.job for run in self._runs.values()}
        self.wake()
        return jobs

    def wake(self) -> None:
        """Let the worker's thread look again."""
        self._changed.set()

    def wait(self, timeout: float | None) -> bool:
        """Wait until something changes that was not seen yet; returns false where nothing has."""
        return self._changed.wait(timeout)

    def see(self) -> list[Run]:
        """All runs that there are now: what changes after this ends the next `wait`."""
        self._changed.clear()
        with self._lock:
            return list(self._runs.values())

    def take_early_stops(self) -> list[tuple[Job, bool]]:
        """The jobs that are to be stopped early, and whether only their current pictures are."""
        with self._lock:
            stops, self._early_stops = self._early_stops, []
        return stops

    def next_action(self) -> Action | None:
        """What to do now; None where there is nothing."""
        with self._lock:
            return self.scheduler.next_action(time.monotonic())

    def run_of(self, ticket: Ticket) -> Run:
        """The run of a ticket that the scheduler has named."""
        return self._runs[ticket]

    def runs_of(self, job: Job) -> list[Run]:
        """The runs of a job that there still are."""
        with self._lock:
            return [run for run in self._runs.values() if run.job is job]

    def forget(self, run: Run) -> None:
        """Drop a run wherever it stands; a second time does nothing."""
        with self._lock:
            self.scheduler.discard(run.ticket)
            self._runs.pop(run.ticket, None)
