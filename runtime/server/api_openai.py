"""OpenAI's images API, `/v1/images` and `/v1/models`, as its clients use it."""

import base64
import hashlib
import hmac
import io
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from engines.identity import Json
from runtime.request import Request as PictureRequest
from runtime.server.faults import Fault, FaultError, Kind, body_of
from runtime.server.jobs import Job, JobStore
from runtime.server.logs import REQUEST_ID
from runtime.server.openai_bodies import CommonBody, GenerationBody, check_model, read_common
from runtime.server.service import Service
from runtime.server.sse import format_event, stream_events

IMAGES = "/v1/images"
FILES = f"{IMAGES}/files"


def openai_router(service: Service) -> APIRouter:
    """The routes of OpenAI's protocol."""
    router = APIRouter(tags=["OpenAI"])
    manifest = service.manifest
    signer = _Signer()
    created = int(time.time())
    model: dict[str, Json] = {
        "id": manifest.name,
        "object": "model",
        "created": created,
        "owned_by": "fracture-sd",
    }

    async def make(
        request: PictureRequest, body: CommonBody, http: Request, event: str
    ) -> StreamingResponse | dict[str, Any]:
        job = await service.submit(request, http.state.client, previews=bool(body.partial_images))
        if body.stream:
            return stream_events(_events(service, job, body, event))
        status = await service.wait(job, http)
        if body.response_format == "url":
            service.jobs.add(job)
        data = []
        for index, png in sorted(status.pictures.items()):
            item: dict[str, Json] = {"revised_prompt": job.settings[index].prompt}
            if body.response_format == "url":
                item["url"] = signer.url(http, job, index)
            else:
                item["b64_json"] = await _encode(png, body)
            data.append(item)
        return {"data": data, **_facts(job, body)}

    @router.post(f"{IMAGES}/generations", response_model=None)
    async def generate(body: GenerationBody, http: Request) -> StreamingResponse | dict[str, Any]:
        """Make pictures, and answer when they are finished, or with events as they are made."""
        request = read_common(body, body.prompt, manifest)
        return await make(request, body, http, "image_generation")

    @router.get(FILES + "/{job_id}/{index}", response_class=Response)
    async def file(job_id: str, index: int, sig: str) -> Response:
        """A finished picture as PNG, for whoever has its address."""
        return Response(signer.open(service.jobs, job_id, index, sig), media_type="image/png")

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The one model."""
        return {"object": "list", "data": [model]}

    @router.get("/v1/models/{name}")
    async def one_model(name: str) -> dict[str, Any]:
        """The one model."""
        check_model(name, manifest)
        return model

    return router


class _Signer:
    """Addresses of pictures that need no key, and that nobody can guess.

    The signature is in the query, which the log leaves out.
    """

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def url(self, http: Request, job: Job, index: int) -> str:
        """The address of a picture, on the host that the request was made to."""
        path = f"{FILES}/{job.id}/{index}".removeprefix("/")
        return f"{http.base_url}{path}?sig={self._sign(job.id, index)}"

    def open(self, jobs: JobStore, job_id: str, index: int, signature: str) -> bytes:
        """The picture at an address.

        Raises:
            FaultError: the signature is wrong, or the picture is not kept any more.
        """
        job = jobs.find(job_id)
        genuine = hmac.compare_digest(self._sign(job_id, index).encode(), signature.encode())
        if not genuine or job is None or index not in job.status.pictures:
            raise FaultError(Fault(Kind.NOT_FOUND, "There is no such picture, or not any more."))
        job.fetched.add(index)
        return job.status.pictures[index]

    def _sign(self, job_id: str, index: int) -> str:
        return hmac.new(self._secret, f"{job_id}/{index}".encode(), hashlib.sha256).hexdigest()


async def _events(service: Service, job: Job, body: CommonBody, event: str) -> AsyncIterator[bytes]:
    """Pictures in progress, as many as were asked for at most, and the finished one."""
    shown, count = None, 0
    wanted = body.partial_images or 0
    try:
        async for status in service.follow(job):
            if (
                status.preview not in (None, shown)
                and count < wanted
                and _is_due(status.rows_done, status.rows, count, wanted)
            ):
                shown = status.preview
                name = f"{event}.partial_image"
                yield format_event(
                    name,
                    {
                        "type": name,
                        "partial_image_index": count,
                        "b64_json": await _encode(shown or b"", body),
                        **_facts(job, body),
                    },
                )
                count += 1
        if status.fault is not None:
            yield format_event("error", body_of(status.fault, IMAGES + "/", REQUEST_ID.get()))
            return
        name = f"{event}.completed"
        png = status.pictures[0]
        usage: Json = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
        yield format_event(
            name,
            {
                "type": name,
                "b64_json": await _encode(png, body),
                "usage": usage,
                **_facts(job, body),
            },
        )
    finally:
        service.cancel(job, "The client went away.")
        service.jobs.forget(job)


def _is_due(done: int, rows: int, count: int, wanted: int) -> bool:
    """Whether it is time for another picture in progress: they are spread over the run."""
    return done * (wanted + 1) >= rows * (count + 1)


def _facts(job: Job, body: CommonBody) -> dict[str, Json]:
    settings, now = job.settings[0], int(time.time())
    return {
        "created": now,
        "created_at": now,
        "size": f"{settings.width}x{settings.height}",
        "background": "opaque",
        "quality": body.quality or "auto",
        "output_format": body.output_format or "png",
    }


async def _encode(content: bytes, body: CommonBody) -> str:
    """A picture file as base64, in the format that was asked for."""
    form = body.output_format or "png"
    if form != "png":
        content = await run_in_threadpool(_convert, content, form, body.output_compression)
    return base64.b64encode(content).decode()


def _convert(content: bytes, form: str, compression: int | None) -> bytes:
    """As OpenAI has it, compression is the quality in percent, 100 where it is not given."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(content)) as picture:
        picture.save(file, form, quality=100 if compression is None else max(compression, 1))
    return file.getvalue()
