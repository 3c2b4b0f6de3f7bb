"""OpenAI's images API, `/v1/images` and `/v1/models`, as its clients use it."""

import time
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from engines.identity import Json
from runtime.request import Request as PictureRequest
from runtime.server.openai_answers import Signer, encode, facts_of, picture_events
from runtime.server.openai_bodies import (
    CommonBody,
    GenerationBody,
    check_model,
    read_change,
    read_common,
)
from runtime.server.openai_forms import form_schema, read_form
from runtime.server.service import Service
from runtime.server.sse import stream_events

IMAGES = "/v1/images"
FILES = f"{IMAGES}/files"

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {}, "text/event-stream": {}}}
}


def openai_router(service: Service) -> APIRouter:
    """The routes of OpenAI's protocol."""
    router = APIRouter(tags=["OpenAI"])
    manifest = service.manifest
    signer = Signer(FILES)
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
            return stream_events(picture_events(service, job, body, event))
        status = await service.wait(job, http)
        if body.response_format == "url":
            service.jobs.add(job)
        data = []
        for index, png in sorted(status.pictures.items()):
            item: dict[str, Json] = {"revised_prompt": job.settings[index].prompt}
            if body.response_format == "url":
                item["url"] = signer.url(http, job, index)
            else:
                item["b64_json"] = await encode(png, body)
            data.append(item)
        return {"data": data, **facts_of(job, body)}

    @router.post(f"{IMAGES}/generations", response_model=None, responses=_ANSWERS)
    async def generate(body: GenerationBody, http: Request) -> StreamingResponse | dict[str, Any]:
        """Make pictures, and answer when they are finished, or with events as they are made."""
        request = read_common(body, body.prompt, manifest)
        return await make(request, body, http, "image_generation")

    async def change(http: Request, event: str) -> StreamingResponse | dict[str, Any]:
        body, image, mask = await read_form(http, service.settings.max_given_pixels)
        request = await run_in_threadpool(read_change, body, image, mask, manifest)
        return await make(request, body, http, event)

    @router.post(
        f"{IMAGES}/edits",
        response_model=None,
        responses=_ANSWERS,
        openapi_extra=form_schema("image", "mask"),
    )
    async def edit(http: Request) -> StreamingResponse | dict[str, Any]:
        """Change a picture, or what a mask leaves transparent of it."""
        return await change(http, "image_edit")

    @router.post(
        f"{IMAGES}/variations",
        response_model=None,
        responses=_ANSWERS,
        openapi_extra=form_schema("image"),
    )
    async def vary(http: Request) -> StreamingResponse | dict[str, Any]:
        """Make pictures that are like a picture."""
        return await change(http, "image_variation")

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
