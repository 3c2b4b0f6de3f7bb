"""The protocol of AUTOMATIC1111's webui, `/sdapi/v1`, as its clients use it.

Progress, interrupt and skip have no job's name there: they are about the caller's own jobs. The
noise comes from torch's CPU generator unless `override_settings.randn_source` says otherwise.
"""

import base64
import json
import time
from collections import defaultdict
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from engines.errors import SettingError
from engines.identity import Json
from runtime.metadata import PARAMETERS_KEY, Origin, format_parameters, parse_parameters
from runtime.request import Request as PictureRequest
from runtime.request import Settings
from runtime.server import a1111_lists as lists
from runtime.server.a1111_bodies import CommonBody, Img2ImgBody, Txt2ImgBody
from runtime.server.a1111_requests import check_model, read_img2img, read_txt2img
from runtime.server.given_pictures import decode_base64, read_parameters
from runtime.server.jobs import Job
from runtime.server.service import Service

PREFIX = "/sdapi/v1"


class GenerationAnswer(BaseModel):
    """Finished pictures."""

    images: list[str] = Field(description="PNG files as base64")
    parameters: dict[str, Any]
    info: str = Field(description="what was made, as JSON")


class PngInfoBody(BaseModel):
    """`POST /sdapi/v1/png-info`."""

    image: str


def a1111_router(service: Service) -> APIRouter:
    """The routes of the webui's protocol."""
    router = APIRouter(prefix=PREFIX, tags=["AUTOMATIC1111"])
    manifest = service.manifest
    active: defaultdict[str, list[Job]] = defaultdict(list)

    async def make(request: PictureRequest, body: CommonBody, http: Request) -> GenerationAnswer:
        client, parameters = http.state.client, _echo(body)
        job = await service.submit(request, client)
        active[client].append(job)
        try:
            status = await service.wait(job, http)
        finally:
            active[client].remove(job)
            if not active[client]:
                del active[client]
        made = [(job.settings[i], png) for i, png in sorted(status.pictures.items())]
        return GenerationAnswer(
            images=[base64.b64encode(png).decode() for _, png in made] if body.send_images else [],
            parameters=parameters,
            info=json.dumps(_info(service, [settings for settings, _ in made], job)),
        )

    @router.post("/txt2img")
    async def txt2img(body: Txt2ImgBody, http: Request) -> GenerationAnswer:
        """Make pictures, and answer when they are finished."""
        return await make(read_txt2img(body, manifest), body, http)

    @router.post("/img2img")
    async def img2img(body: Img2ImgBody, http: Request) -> GenerationAnswer:
        """Change a picture, or a part of it, and answer when that is finished."""
        most = service.settings.max_given_pixels
        request = await run_in_threadpool(read_img2img, body, manifest, most)
        return await make(request, body, http)

    @router.get("/progress")
    async def progress(http: Request, skip_current_image: bool = False) -> dict[str, Any]:
        """How far the caller's oldest job is."""
        jobs = active.get(http.state.client, [])
        if jobs and not skip_current_image:
            jobs[0].wants_previews = True  # from now on: most clients never look
        return _progress(jobs, with_picture=not skip_current_image)

    @router.post("/interrupt")
    async def interrupt(http: Request) -> dict[str, Any]:
        """Finish the caller's jobs as they are now."""
        for job in active.get(http.state.client, []):
            service.worker.stop_early(job, only_current=False)
        return {}

    @router.post("/skip")
    async def skip(http: Request) -> None:
        """Finish the caller's pictures in progress as they are now, and go on with the next."""
        for job in active.get(http.state.client, []):
            service.worker.stop_early(job, only_current=True)

    @router.get("/options")
    async def get_options() -> dict[str, Any]:
        """The options that clients look at."""
        return lists.options(manifest)

    @router.post("/options")
    async def set_options(body: dict[str, Any]) -> None:
        """Take options that are as they are here; clients send the whole list back."""
        check_model(body.get("sd_model_checkpoint"), manifest)
        here = lists.options(manifest) | {"sd_model_checkpoint": body.get("sd_model_checkpoint")}
        changed = sorted(name for name in body.keys() & here.keys() if body[name] != here[name])
        if changed:
            raise SettingError(
                f"{', '.join(changed)} cannot be changed for everybody; send it with a request, "
                "in override_settings."
            )

    @router.post("/png-info")
    async def png_info(body: PngInfoBody) -> dict[str, Any]:
        """What a picture says of how it was made."""
        content, most = decode_base64(body.image, "image"), service.settings.max_given_pixels
        text = await run_in_threadpool(read_parameters, content, "image", most)
        if not text:
            return {"info": "", "items": {}, "parameters": {}}
        read = await run_in_threadpool(parse_parameters, text)
        parameters = {"Prompt": read.prompt, "Negative prompt": read.negative, **read.fields}
        return {"info": text, "items": {PARAMETERS_KEY: text}, "parameters": parameters}

    @router.post("/refresh-checkpoints")
    @router.post("/refresh-vae")
    @router.post("/refresh-loras")
    @router.post("/refresh-embeddings")
    async def refresh() -> None:
        """There is one model, and nothing to look for."""

    for name, value in {
        "samplers": lists.samplers(),
        "schedulers": lists.schedulers(),
        "upscalers": lists.upscalers(),
        "latent-upscale-modes": lists.latent_upscale_modes(),
        "sd-models": lists.models(manifest),
        "loras": lists.loras(manifest),
        "prompt-styles": lists.styles(manifest),
        "scripts": {"txt2img": [], "img2img": []},
        "script-info": [],
        "cmd-flags": {},
        "embeddings": {"loaded": {}, "skipped": {}},
        **{name: [] for name in lists.EMPTY},
    }.items():
        router.get(f"/{name}", name=name, summary=f"List {name}")(_constant(value))

    @router.get("/memory")
    async def memory() -> dict[str, Any]:
        """How much memory the process takes."""
        return lists.memory()

    return router


def _constant(value: Any) -> Any:
    async def answer() -> Any:
        return value

    return answer


def _echo(body: CommonBody) -> dict[str, Any]:
    """The request as it was understood, as the webui tells it, without the pictures.

    Raises:
        SettingError: something in it cannot be told.
    """
    try:
        told: dict[str, Any] = json.loads(body.model_dump_json(exclude={"init_images", "mask"}))
    except ValueError as error:
        raise SettingError(
            "The request holds half of a character, or is nested too deeply."
        ) from error
    return told


def _info(service: Service, made: list[Settings], job: Job) -> dict[str, Json]:
    manifest = service.manifest
    origin = Origin(manifest.name, manifest.identity, service.pipeline.choice.backend.name)
    first = job.settings[0]
    noise = first.noise
    subseeds: list[Json] = [-1 if s.noise.subseed is None else s.noise.subseed for s in made]
    return {
        "prompt": first.prompt,
        "all_prompts": [settings.prompt for settings in made],
        "negative_prompt": first.negative,
        "all_negative_prompts": [settings.negative for settings in made],
        "seed": first.seed,
        "all_seeds": [settings.seed for settings in made],
        "subseed": -1 if noise.subseed is None else noise.subseed,
        "all_subseeds": subseeds,
        "subseed_strength": noise.subseed_strength,
        "seed_resize_from_w": noise.from_width or -1,
        "seed_resize_from_h": noise.from_height or -1,
        "width": first.width,
        "height": first.height,
        "sampler_name": first.sampler,
        "cfg_scale": first.cfg,
        "steps": first.steps,
        "batch_size": len(made),
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": manifest.name,
        "sd_model_hash": manifest.identity[:10],
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "denoising_strength": _strength(first),
        "extra_generation_params": {"Schedule type": first.schedule},
        "index_of_first_image": 0,
        "infotexts": [format_parameters(settings, origin) for settings in made],
        "styles": [],
        "job_timestamp": time.strftime("%Y%m%d%H%M%S"),
        "clip_skip": first.clip_skip,
        "is_using_inpainting_conditioning": False,
        "version": f"fracture-sd {origin.version}",
    }


def _strength(settings: Settings) -> float | None:
    changed = settings.init or settings.hires
    return None if changed is None else changed.strength


def _progress(jobs: list[Job], *, with_picture: bool) -> dict[str, Any]:
    job = jobs[0] if jobs else None
    status = job.status if job else None
    rows = status.rows if status else 0
    done = status.rows_done if status else 0
    preview = status.preview if status and with_picture else None
    left = status.seconds_left(time.monotonic()) if status else None
    return {
        "progress": done / rows if rows else 0.0,
        "eta_relative": left or 0.0,
        "state": {
            "skipped": False,
            "interrupted": False,
            "stopping_generation": False,
            "job": "" if job is None else job.id,
            "job_count": len(jobs),
            "job_timestamp": time.strftime("%Y%m%d%H%M%S"),
            "job_no": 0,
            "sampling_step": done,
            "sampling_steps": rows,
        },
        "current_image": base64.b64encode(preview).decode() if preview else None,
        "textinfo": None,
    }
