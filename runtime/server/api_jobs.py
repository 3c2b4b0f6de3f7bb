"""Our own protocol: jobs that are queued, followed, fetched and cancelled."""

import base64
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from engines.errors import SettingError
from runtime.samplers.catalogue import SAMPLERS
from runtime.server.faults import Fault, FaultError, Kind
from runtime.server.job_bodies import JobBody, read_job
from runtime.server.jobs import Job, State, Status
from runtime.server.scheduler import Priority
from runtime.server.service import Service
from runtime.server.sse import format_event, stream_events

PREFIX = "/v1/jobs"


class PictureView(BaseModel):
    """One picture of a job."""

    index: int
    seed: int
    ready: bool
    url: str = Field(description="where it can be fetched once it is ready")


class FaultView(BaseModel):
    """Why a job failed."""

    kind: str
    message: str


class JobView(BaseModel):
    """How far a job is."""

    id: str
    state: State
    rows: int = Field(description="calls of the model that its pictures take together")
    rows_done: int
    seconds_left: float | None = Field(description="at the pace so far")
    pictures: list[PictureView]
    error: FaultView | None


class LimitsView(BaseModel):
    """What the server takes at most."""

    pictures: int
    steps: int
    pixels: int
    given_pixels: int
    prompt: int
    body: int
    deadline: float


class ServerView(BaseModel):
    """What is served, and within which limits."""

    bundle: str
    identity: str
    backend: str
    device: str
    slots: int
    previews: bool = Field(description="whether jobs may ask for them")
    presets: list[str]
    preset_tags: dict[str, str] = Field(
        description="how many trained tags each preset puts in: all, none or a number"
    )
    samplers: dict[str, list[str]]
    defaults: dict[str, str | int | float]
    trained_tags: dict[str, list[str]]
    limits: LimitsView


def jobs_router(service: Service) -> APIRouter:
    """The routes of the jobs' protocol."""
    router = APIRouter(tags=["jobs"])

    @router.post(PREFIX, status_code=202)
    async def submit(body: JobBody, http: Request, response: Response) -> JobView:
        """Queue a job."""
        if body.previews and not service.manifest.latents.preview:
            raise SettingError("previews: the bundle has no map for them. Export it again.")
        request = await run_in_threadpool(read_job, body, service.settings.max_given_pixels)
        job = await service.submit(
            request,
            http.state.client,
            priority=Priority[body.priority.upper()],
            deadline=body.deadline,
            previews=body.previews,
        )
        response.headers["Location"] = f"{PREFIX}/{job.id}"
        return _view(job, job.status)

    @router.get(PREFIX + "/{job_id}")
    async def status(job_id: str, http: Request) -> JobView:
        """How far a job is."""
        job = service.jobs.get(job_id, http.state.client)
        return _view(job, job.status)

    @router.delete(PREFIX + "/{job_id}")
    async def cancel(job_id: str, http: Request) -> JobView:
        """Cancel a job, or drop the pictures of one that has ended."""
        job = service.jobs.get(job_id, http.state.client)
        if job.status.ended:
            service.jobs.forget(job)
        else:
            service.cancel(job, "The client cancelled the job.")
        return _view(job, job.status)

    @router.get(
        PREFIX + "/{job_id}/pictures/{index}",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}},
    )
    async def picture(
        job_id: str,
        index: int,
        http: Request,
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> Response:
        """A finished picture, as PNG."""
        job = service.jobs.get(job_id, http.state.client)
        png = job.status.pictures.get(index)
        if png is None:
            raise FaultError(_no_picture(job, index))
        job.fetched.add(index)
        tag = f'"{job.id}-{index}"'
        headers = {"ETag": tag, "Cache-Control": "private, max-age=3600, immutable"}
        if if_none_match == tag:
            return Response(status_code=304, headers=headers)
        return Response(png, media_type="image/png", headers=headers)

    @router.get(PREFIX + "/{job_id}/events", response_class=StreamingResponse)
    async def events(job_id: str, http: Request) -> StreamingResponse:
        """Server-sent events: `progress`, `preview`, and at the end the state as an event."""
        job = service.jobs.get(job_id, http.state.client)
        return stream_events(_events(service, job))

    @router.get("/v1/info")
    async def info() -> ServerView:
        """What is served, and within which limits."""
        return _server_view(service)

    return router


async def _events(service: Service, job: Job) -> AsyncIterator[bytes]:
    shown = None
    async for status in service.follow(job):
        view = _view(job, status).model_dump(mode="json")
        if status.preview is not None and status.preview is not shown:
            shown = status.preview
            yield format_event("preview", {"image": base64.b64encode(shown).decode()})
        yield format_event(status.state.value if status.ended else "progress", view)


def _view(job: Job, status: Status) -> JobView:
    left = status.seconds_left(time.monotonic())
    fault = status.fault
    return JobView(
        id=job.id,
        state=status.state,
        rows=status.rows,
        rows_done=status.rows_done,
        seconds_left=None if left is None else round(left, 2),
        pictures=[
            PictureView(
                index=i,
                seed=settings.seed,
                ready=i in status.pictures,
                url=f"{PREFIX}/{job.id}/pictures/{i}",
            )
            for i, settings in enumerate(job.settings)
        ],
        error=None if fault is None else FaultView(kind=fault.kind.value, message=fault.message),
    )


def _no_picture(job: Job, index: int) -> Fault:
    status = job.status
    if 0 <= index < len(job.settings) and not status.ended:
        return Fault(Kind.CONFLICT, f"Picture {index} is not finished; the job is {status.state}.")
    return Fault(Kind.NOT_FOUND, f"The job {job.id} ({status.state}) has no picture {index}.")


def _server_view(service: Service) -> ServerView:
    manifest, limits, backend = service.manifest, service.settings, service.pipeline.choice.backend
    return ServerView(
        bundle=manifest.name,
        identity=manifest.identity,
        backend=backend.name,
        device=backend.device,
        slots=service.worker.slots,
        previews=bool(manifest.latents.preview),
        presets=list(manifest.presets),
        preset_tags={name: preset.tags for name, preset in manifest.presets.items()},
        samplers={sampler.name: list(sampler.schedules) for sampler in SAMPLERS},
        defaults=asdict(manifest.defaults),
        trained_tags={name: list(tags) for name, tags in manifest.trained_tags.items()},
        limits=LimitsView(
            pictures=limits.max_pictures,
            steps=limits.max_steps,
            pixels=limits.max_pixels,
            given_pixels=limits.max_given_pixels,
            prompt=limits.max_prompt,
            body=limits.max_body,
            deadline=limits.deadline,
        ),
    )
