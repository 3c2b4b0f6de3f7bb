"""What every protocol does: check a request, queue it, follow it, and give it up."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest

from engines.errors import SettingError
from engines.manifest import Manifest
from runtime.chunks import TEXT_TOKENS
from runtime.hires import HiresSettings
from runtime.pipeline import Pipeline
from runtime.request import Request, Settings
from runtime.samplers.table import Table
from runtime.server.connections import Connections
from runtime.server.faults import Fault, FaultError, Kind
from runtime.server.jobs import Job, JobStore, State, Status
from runtime.server.metrics import Metrics
from runtime.server.scheduler import Priority
from runtime.server.settings import ServerSettings
from runtime.server.worker import Worker

log = logging.getLogger(__name__)

_TICK = 0.25
"""Seconds between two looks at deadlines, old results and the watchdog."""

JOIN_SECONDS = 30.0
"""How long the end waits for the engines' last call."""

_RETRY_WHILE_DRAINING = 5


@dataclass(frozen=True)
class _Work:
    """What a request comes to.

    Attributes:
        settings: what each of its pictures is made of; they differ in their seeds alone.
        table: the sampler's, for the first pass of each.
        rows: those of all passes of each.
        entries: of the UNet's batch, as many as each takes.
    """

    settings: list[Settings]
    table: Table
    rows: int
    entries: int


class Service:
    """One bundle being served: the limits, the jobs and the worker.

    Attributes:
        settings: how the server was configured.
        pipeline: the bundle and its backend; only the worker calls its engines.
        worker: makes the pictures.
        jobs: the jobs that clients may ask about.
        connections: those of the clients, where a server counts them.
        metrics: what Prometheus is told.
        draining: whether new jobs are refused because the server is about to stop.
    """

    def __init__(self, settings: ServerSettings, pipeline: Pipeline) -> None:
        """Serve `pipeline`, which is closed with the service."""
        self.settings = settings
        self.pipeline = pipeline
        self.metrics = Metrics()
        self.worker = Worker(pipeline, settings.slots, settings.queue, self.metrics)
        self.jobs = JobStore(settings.keep, settings.keep_bytes)
        self.connections = Connections(settings.max_connections, self.metrics)
        self.draining = False
        self.metrics.observe_gauge(
            "fracture_ready", "Whether requests should come here", lambda: not self.why_not_ready()
        )
        self.metrics.observe_gauge(
            "fracture_kept_bytes", "Bytes that ended jobs hold", self.jobs.kept_bytes
        )
        backend = pipeline.choice.backend
        self.metrics.describe(
            bundle=self.manifest.name,
            identity=self.manifest.identity,
            backend=backend.name,
            device=backend.device,
        )

    @property
    def manifest(self) -> Manifest:
        """The bundle's."""
        return self.pipeline.bundle.manifest

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load the engines in the background, serve, and stop at the end."""
        self.worker.start()
        chores = asyncio.create_task(self._keep_house())
        try:
            yield
        finally:
            chores.cancel()
            await run_in_threadpool(self.worker.stop, JOIN_SECONDS)

    async def submit(
        self,
        request: Request,
        client: str,
        *,
        priority: Priority = Priority.NORMAL,
        deadline: float | None = None,
        previews: bool = False,
    ) -> Job:
        """Check a request and queue it.

        Args:
            request: what is asked for.
            client: who asks.
            priority: how urgent it is.
            deadline: seconds after which nobody needs it; at most, and by default, the server's.
            previews: whether someone looks at it while it is made.

        Raises:
            SettingError: the request is not possible, or beyond the server's limits.
            FaultError: the queue is full, or the server is about to stop.
        """
        if self.draining:
            raise FaultError(
                Fault(
                    Kind.UNAVAILABLE,
                    "The server is about to stop and takes no new jobs.",
                    retry_after=_RETRY_WHILE_DRAINING,
                )
            )
        work = await run_in_threadpool(self._prepare, request)
        now, count = time.monotonic(), len(work.settings)
        seconds = min(deadline or self.settings.deadline, self.settings.deadline)
        rows = [work.rows] * count
        job = Job(client, work.settings, rows, priority, created=now, deadline=now + seconds)
        job.wants_previews = previews
        self.worker.submit(job, work.table, work.entries)
        self.jobs.add(job)
        log.info(
            "job %s of %s: %d pictures, %d rows",
            *(job.id, client, count, sum(rows)),
            extra={"fields": {"job": job.id, "client": client, "pictures": count}},
        )
        return job

    async def follow(self, job: Job) -> AsyncIterator[Status]:
        """A job's status now, after changes, and at its end; changes in between may be missed."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(changed.set)

        with job.watching(wake):
            while True:
                changed.clear()
                status = job.status
                yield status
                if status.ended:
                    return
                await changed.wait()

    async def wait(self, job: Job, http: HttpRequest) -> Status:
        """Wait for a job of which the client waits for the answer; give it up if it goes away.

        Raises:
            FaultError: the job failed or was cancelled.
        """
        over = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wake() -> None:
            if job.status.ended:
                loop.call_soon_threadsafe(over.set)

        gone = asyncio.create_task(_disconnection(http))
        gone.add_done_callback(lambda _: over.set())
        try:
            with job.watching(wake):
                if not job.status.ended:
                    await over.wait()
        finally:
            gone.cancel()
            self.jobs.forget(job)
            self.cancel(job, "The client went away.")
        status = job.status
        if status.fault is not None:
            raise FaultError(status.fault)
        return status

    def cancel(self, job: Job, why: str) -> None:
        """Give a job up; one that has ended stays as it is."""
        if not job.status.ended:
            self.worker.end(job, State.CANCELLED, Fault(Kind.CANCELLED, why))

    def why_not_ready(self) -> str | None:
        """Why a load balancer should send no requests here, or None."""
        if self.draining:
            return "the server is about to stop"
        return self.worker.why_not_ready(self.settings.stall)

    async def drain(self) -> None:
        """Take no new jobs, and wait until all have ended and were fetched, or time is up."""
        self.draining = True
        until = time.monotonic() + self.settings.drain
        while (now := time.monotonic()) < until and (
            self.jobs.unfinished() or self.jobs.awaited(now)
        ):
            await asyncio.sleep(_TICK)

    def _prepare(self, request: Request) -> _Work:
        """In a thread: the table of a thousand steps takes its time."""
        faults = self._faults_of(request)
        if not faults:
            settings = self.pipeline.settle([request])
            faults = self._faults_of_picture(settings[0])
        if faults:
            raise SettingError("; ".join(faults) + ".")
        table = self.pipeline.table(settings[0])
        rows = table.rows + self.pipeline.rows_to_follow(settings[0])
        return _Work(settings, table, rows, self.pipeline.prompts(settings[0]).entries)

    def _faults_of(self, request: Request) -> list[str]:
        limits, faults = self.settings, []
        if request.count > limits.max_pictures:
            faults.append(
                f"{request.count} pictures of one request are too many: "
                f"this server makes {limits.max_pictures}"
            )
        for name, text in (("prompt", request.prompt), ("negative prompt", request.negative or "")):
            if len(text) > limits.max_prompt:
                faults.append(
                    f"the {name} has {len(text)} characters: this server takes {limits.max_prompt}"
                )
        return faults

    def _faults_of_picture(self, picture: Settings) -> list[str]:
        limits, faults = self.settings, []
        passes: list[Settings | HiresSettings] = [picture]
        if picture.hires is not None:
            passes.append(picture.hires)
        for each in passes:
            if each.steps > limits.max_steps:
                faults.append(
                    f"{each.steps} steps are too many: this server takes {limits.max_steps}"
                )
            if each.width * each.height > limits.max_pixels:
                faults.append(
                    f"{each.width}x{each.height} is too large: this server makes "
                    f"{limits.max_pixels} pixels at most"
                )
        # BREAK makes many chunks of few characters, and the UNet looks at every token of each
        chunks = self.pipeline.prompts(picture).length
        most = math.ceil(limits.max_prompt / TEXT_TOKENS)
        if chunks > most:
            faults.append(
                f"a prompt has {chunks} chunks of {TEXT_TOKENS} tokens: this server takes {most}"
            )
        return faults

    def _end_overdue(self, now: float) -> None:
        for job in self.jobs.unfinished():
            if now >= job.deadline:
                seconds = job.deadline - job.created
                fault = Fault(
                    Kind.DEADLINE, f"The job was not finished within {seconds:g} seconds."
                )
                self.worker.end(job, State.FAILED, fault)

    async def _keep_house(self) -> None:
        reason = self.why_not_ready()  # as it is while the engines are loaded
        while True:
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            self._end_overdue(now)
            self.jobs.sweep(now)
            before, reason = reason, self.why_not_ready()
            if reason != before and not self.draining:
                log.warning("not ready: %s", reason) if reason else log.info("ready")


async def _disconnection(http: HttpRequest) -> None:
    """Return when the client has closed the connection; the body has been read before."""
    while (await http.receive())["type"] != "http.disconnect":
        pass
