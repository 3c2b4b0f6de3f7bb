"""Jobs: what a client asked for, how far it is, and its pictures until they are fetched or old.

A job is written by the worker's threads and read by the event loop. What readers see is one
immutable `Status`, replaced whole under the job's lock; whoever watches is called after each
change and looks at the newest status, so that a slow reader misses changes but holds nothing up.
"""

import contextlib
import dataclasses
import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from runtime.request import Settings
from runtime.server.faults import Fault, FaultError, Kind
from runtime.server.logs import REQUEST_ID, logged_under
from runtime.server.scheduler import Priority

log = logging.getLogger(__name__)

FETCH_SECONDS = 10.0
"""How soon after its end a client that polls can be expected to fetch a job's pictures."""

MOST_ENDED = 10_000
"""Ended jobs that are kept whatever their size, for each is looked at several times a second."""

_ID_BYTES = 16


class State(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({State.DONE, State.FAILED, State.CANCELLED})


@dataclass(frozen=True)
class Status:
    """What is known of a job at one moment.

    Attributes:
        state: where it stands; after DONE, FAILED and CANCELLED nothing changes any more.
        rows: how many rows its pictures have together, which is what progress is counted in.
        rows_done: how many of them are done.
        started: when its first picture got a slot, on the monotonic clock.
        pictures: those that are finished, as PNG files, by their index.
        preview: the picture in progress as a small picture file, where someone watches.
        fault: why it failed.
    """

    state: State
    rows: int
    rows_done: int = 0
    started: float | None = None
    pictures: dict[int, bytes] = dataclasses.field(default_factory=dict)
    preview: bytes | None = None
    fault: Fault | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ENDED

    def seconds_left(self, now: float) -> float | None:
        """How long it will take at the pace so far, or None where there is no pace yet."""
        if self.ended:
            return 0.0
        if self.started is None or not self.rows_done:
            return None
        return (now - self.started) / self.rows_done * (self.rows - self.rows_done)


class Job:
    """Some pictures that one request asked for.

    Attributes:
        id: its name, which cannot be guessed.
        client: who asked.
        request_id: the id of the request that asked, under which what becomes of it is logged.
        settings: what its pictures are made of, in their order.
        rows: how many rows each picture has.
        priority: how urgent it is.
        created: when it came, on the monotonic clock.
        deadline: when nobody needs it any more, likewise.
        ended_at: when it ended, likewise; None before.
        wants_previews: whether someone looks at it while it is made.
        previewed: when it last showed what it is at, on the monotonic clock.
        fetched: the indices of the pictures that the client has got.
    """

    def __init__(
        self,
        client: str,
        settings: Sequence[Settings],
        rows: Sequence[int],
        priority: Priority,
        created: float,
        deadline: float,
    ) -> None:
        self.id = secrets.token_hex(_ID_BYTES)
        self.client = client
        self.request_id = REQUEST_ID.get()
        self.settings = tuple(settings)
        self.rows = tuple(rows)
        self.priority = priority
        self.created = created
        self.deadline = deadline
        self.ended_at: float | None = None
        self.wants_previews = False
        self.previewed = 0.0
        self.fetched: set[int] = set()
        self._status = Status(State.QUEUED, sum(rows))
        self._dropped: set[int] = set()
        self._lock = threading.Lock()
        self._watchers: list[Callable[[], None]] = []

    @property
    def status(self) -> Status:
        """What is known of it now."""
        return self._status

    def start(self, now: float) -> None:
        """Its first picture has got a slot."""
        with self._lock:
            if self._status.state is State.QUEUED:
                self._replace(state=State.RUNNING, started=now)

    def add_rows(self, count: int, preview: bytes | None = None) -> None:
        """Its pictures have advanced by `count` rows together."""
        with self._lock:
            if not self._status.ended:
                self._replace(
                    rows_done=self._status.rows_done + count,
                    preview=preview or self._status.preview,
                )

    def deliver(self, index: int, png: bytes) -> bool:
        """Take a finished picture; returns whether it was the last that was missing."""
        with self._lock:
            if self._status.ended:
                return False
            self._replace(pictures={**self._status.pictures, index: png})
            return self._complete

    def drop(self, index: int) -> bool:
        """Do without a picture; returns whether all that are still wanted are there."""
        with self._lock:
            self._dropped.add(index)
            return not self._status.ended and self._complete

    def end(self, state: State, now: float, fault: Fault | None = None) -> bool:
        """End it; only the first of several ends counts, and returns true."""
        with self._lock:
            if self._status.ended:
                return False
            self.ended_at = now
            pictures = self._status.pictures if state is State.DONE else {}
            rows_done = self._status.rows if state is State.DONE else self._status.rows_done
            self._replace(
                state=state, fault=fault, preview=None, pictures=pictures, rows_done=rows_done
            )
            return True

    @contextlib.contextmanager
    def watching(self, on_change: Callable[[], None]) -> Iterator[None]:
        """Have `on_change` called after every change, from whatever thread makes it."""
        with self._lock:
            self._watchers.append(on_change)
        try:
            yield
        finally:
            with self._lock:
                self._watchers.remove(on_change)

    @property
    def _complete(self) -> bool:
        return len(self._status.pictures) + len(self._dropped) == len(self.settings)

    def _replace(self, **changes: object) -> None:
        self._status = dataclasses.replace(self._status, **changes)  # type: ignore[arg-type]
        for watcher in self._watchers:
            try:
                watcher()
            except Exception:  # whoever watches must not end the worker
                with logged_under(self.request_id):
                    log.exception("job %s: a watcher failed", self.id)


class JobStore:
    """The jobs that clients may still ask about."""

    def __init__(self, keep_seconds: float, keep_bytes: int) -> None:
        """Keep ended jobs for `keep_seconds`, and of what they hold at most `keep_bytes`."""
        self._keep_seconds = keep_seconds
        self._keep_bytes = keep_bytes
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def add(self, job: Job) -> None:
        """Keep a job."""
        with self._lock:
            self._jobs[job.id] = job

    def find(self, job_id: str) -> Job | None:
        """Anybody's job, for callers that have another right to it."""
        with self._lock:
            return self._jobs.get(job_id)

    def get(self, job_id: str, client: str) -> Job:
        """A client's own job.

        Raises:
            FaultError: the client has no such job.
        """
        job = self.find(job_id)
        if job is None or job.client != client:
            raise FaultError(
                Fault(
                    Kind.NOT_FOUND,
                    f"There is no job {job_id[:64]!r}. Results are kept for "
                    f"{self._keep_seconds:g} seconds.",
                )
            )
        return job

    def forget(self, job: Job) -> None:
        """Drop a job and its pictures."""
        with self._lock:
            self._jobs.pop(job.id, None)

    def unfinished(self) -> list[Job]:
        """The jobs that have not ended."""
        with self._lock:
            return [job for job in self._jobs.values() if not job.status.ended]

    def ended(self) -> list[Job]:
        """The jobs whose results are kept, the one that ended first in front."""
        with self._lock:
            jobs = [(job.ended_at, job) for job in self._jobs.values()]
        done = [(ended_at, job) for ended_at, job in jobs if ended_at is not None]
        return [job for _, job in sorted(done, key=lambda pair: pair[0])]

    def kept_bytes(self) -> int:
        """What the ended jobs hold."""
        return sum(map(_size, self.ended()))

    def awaited(self, now: float) -> bool:
        """Whether a client is still to fetch its pictures, or has not had the time to."""
        return any(
            job.fetched < job.status.pictures.keys() and now < (job.ended_at or now) + FETCH_SECONDS
            for job in self.ended()
        )

    def sweep(self, now: float) -> None:
        """Drop what is older or more than is to be kept, the oldest first."""
        ended = self.ended()
        size = sum(_size(job) for job in ended)
        for i, job in enumerate(ended):
            old = job.ended_at is not None and now - job.ended_at >= self._keep_seconds
            if not old and size <= self._keep_bytes and len(ended) - i <= MOST_ENDED:
                break
            self.forget(job)
            size -= _size(job)


def _size(job: Job) -> int:
    """The bytes of its pictures, and of what they were made from, which they share."""
    size = sum(map(len, job.status.pictures.values()))
    settings = job.settings[0]
    size += len(settings.prompt) + len(settings.negative)
    if settings.init is not None:
        mask = settings.init.mask
        for given in (settings.init.picture, mask.picture if mask else None):
            if given is not None and given.pixels is not None:
                size += given.pixels.nbytes
    return size
