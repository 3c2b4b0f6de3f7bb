"""OpenAI's answers: pictures as base64, by a signed address, and as a stream of events."""

import base64
import hashlib
import hmac
import io
import secrets
import time
from collections.abc import AsyncIterator
from typing import get_args

from fastapi import Request
from PIL import Image
from starlette.concurrency import run_in_threadpool

from engines.identity import Json
from runtime.server.faults import Fault, FaultError, Kind, body_of
from runtime.server.jobs import Job, JobStore
from runtime.server.logs import REQUEST_ID
from runtime.server.openai_bodies import CommonBody, Quality
from runtime.server.service import Service
from runtime.server.sse import format_event


class Signer:
    """Addresses of pictures that need no key, and that nobody can guess.

    The signature is in the query, which the log leaves out.
    """

    def __init__(self, path: str) -> None:
        """Sign addresses below `path`."""
        self._path = path
        self._secret = secrets.token_bytes(32)

    def url(self, http: Request, job: Job, index: int) -> str:
        """The address of a picture, on the host that the request was made to."""
        path = f"{self._path}/{job.id}/{index}".removeprefix("/")
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


async def picture_events(
    service: Service, job: Job, body: CommonBody, event: str
) -> AsyncIterator[bytes]:
    """Pictures in progress, as many as were asked for at most, and the finished one."""
    shown, count = None, 0
    wanted = body.partial_images or 0
    size = job.settings[0].width, job.settings[0].height
    told = facts_of(job, body)
    told["quality"] = told["quality"] or "auto"  # events have this, answers do not
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
                        "b64_json": await encode(shown or b"", body, size),
                        **told,
                    },
                )
                count += 1
        if status.fault is not None:
            yield format_event("error", body_of(status.fault, "/v1/images/", REQUEST_ID.get()))
            return
        name = f"{event}.completed"
        png = status.pictures[0]
        usage: Json = {
            "input_tokens": 0,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
            "output_tokens": 0,
            "total_tokens": 0,
        }
        yield format_event(
            name,
            {
                "type": name,
                "b64_json": await encode(png, body),
                "usage": usage,
                **told,
            },
        )
    finally:
        service.cancel(job, "The client went away.")
        service.jobs.forget(job)


def _is_due(done: int, rows: int, count: int, wanted: int) -> bool:
    """Whether it is time for another picture in progress: they are spread over the run."""
    return done * (wanted + 1) >= rows * (count + 1)


def facts_of(job: Job, body: CommonBody) -> dict[str, Json]:
    """What answers and events say beside the pictures."""
    settings, now = job.settings[0], int(time.time())
    return {
        "created": now,
        "created_at": now,
        "size": f"{settings.width}x{settings.height}",
        "background": "opaque",
        "quality": body.quality if body.quality in get_args(Quality) else None,
        "output_format": body.output_format or "png",
    }


async def encode(content: bytes, body: CommonBody, size: tuple[int, int] | None = None) -> str:
    """A PNG file as base64, in the format that was asked for, enlarged where a size is given."""
    form = body.output_format or "png"
    if form != "png" or size is not None:
        content = await run_in_threadpool(_convert, content, form, body.output_compression, size)
    return base64.b64encode(content).decode()


def _convert(
    content: bytes, form: str, compression: int | None, size: tuple[int, int] | None
) -> bytes:
    """As OpenAI has it, compression is the quality in percent, 100 where it is not given."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(content)) as opened:
        picture = opened if size is None else opened.resize(size)
        picture.save(file, form, quality=100 if compression is None else max(compression, 1))
    return file.getvalue()
