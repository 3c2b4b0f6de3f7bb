"""Pictures that start from pictures are those of diffusers: img2img, inpainting, hires fix.

The reference is diffusers on the fused demo model, in float32 on the CPU.
"""

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from runtime.hires import HiresSettings
from runtime.init_settings import InitSettings, MaskSettings
from runtime.picture import Pixels
from runtime.pipeline import Pipeline
from runtime.request import Request
from runtime.resize import CROP
from runtime.source_picture import SourcePicture
from tests.runtime.test_parity import EXACT_DB, psnr

# torch's tensors meet numpy 2 inside diffusers' scheduler.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PROMPT = "cracked skin, portrait of a woman, green skin, short hair"
NEGATIVE = "beard, smooth skin"
SIZE = (120, 104)
REQUEST = Request(PROMPT, NEGATIVE, seed=21, steps=10, cfg=4.0, width=SIZE[0], height=SIZE[1])
SCHEDULERS = {
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "DDIM": ("DDIMScheduler", {"clip_sample": False}),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "Heun": ("HeunDiscreteScheduler", {}),
}

OURS = {name: SCHEDULERS[name][0] for name in ("Euler a", "Heun")}
"""By the webui's names these would follow its schedules instead of the model's own."""


def photo_of(width: int, height: int) -> Image.Image:
    """A face of sorts: the model's VAE must make something of it."""
    image = Image.new("RGB", (width, height), (70, 110, 160))
    draw = ImageDraw.Draw(image)
    draw.ellipse((width // 4, height // 6, width * 3 // 4, height * 5 // 6), (180, 140, 110))
    draw.ellipse((width * 3 // 8, height // 3, width * 7 // 16, height * 2 // 5), (30, 20, 20))
    draw.ellipse((width * 9 // 16, height // 3, width * 5 // 8, height * 2 // 5), (30, 20, 20))
    draw.line((width * 3 // 8, height * 2 // 3, width * 5 // 8, height * 2 // 3), (90, 30, 30), 3)
    return image


def mask_of(width: int, height: int, box: tuple[float, float, float, float]) -> Image.Image:
    mask = Image.new("L", (width, height))
    left, top, right, bottom = box
    place = (left * width, top * height, right * width, bottom * height)
    ImageDraw.Draw(mask).ellipse(place, 255)
    return mask


HALF = (0.5, 0.1, 0.95, 0.9)
SMALL = (0.52, 0.25, 0.68, 0.45)


def source_of(image: Image.Image) -> SourcePicture:
    return SourcePicture.of(np.asarray(image))


class Reference:
    """diffusers' pipelines on one set of networks."""

    def __init__(self, model: Path) -> None:
        self._model = model

    @cached_property
    def networks(self) -> Any:
        """A pipeline that holds them."""
        from diffusers import StableDiffusionPipeline

        pipeline = StableDiffusionPipeline.from_pretrained(
            self._model, dtype=torch.float32, safety_checker=None
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def run(self, kind: str, sampler: str, request: Request, **options: Any) -> Any:
        """What the pipeline `kind` returns as its first picture."""
        import diffusers

        scheduler, config = SCHEDULERS[sampler]
        networks = self.networks
        pipeline = getattr(diffusers, kind)(
            **{name: part for name, part in networks.components.items() if name != "scheduler"},
            scheduler=getattr(diffusers, scheduler).from_config(
                networks.scheduler.config, **config
            ),
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        assert request.seed is not None
        result = pipeline(
            request.prompt,
            negative_prompt=request.negative,
            guidance_scale=request.cfg,
            generator=torch.Generator().manual_seed(request.seed),
            **{"num_inference_steps": request.steps, **options},
        )
        return result.images[0]


@pytest.fixture(scope="module")
def reference(fused_demo: Path) -> Iterator[Reference]:
    """On one thread: for a model this small, threads cost more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Reference(fused_demo)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def exact(demo_bundle_fp32: Path) -> Iterator[Pipeline]:
    with Pipeline.open(demo_bundle_fp32, "cpu") as pipeline:
        yield pipeline


def make(pipeline: Pipeline, request: Request) -> Pixels:
    (picture,) = pipeline.generate(pipeline.settle([request]))
    return picture.pixels


@pytest.mark.parametrize(
    ("sampler", "strength"),
    [("DPM++ 2M", 0.6), ("Euler a", 0.45), ("Heun", 0.35), ("DDIM", 1.0)],
)
def test_img2img(exact: Pipeline, reference: Reference, sampler: str, strength: float) -> None:
    photo = photo_of(*SIZE)
    init = InitSettings(source_of(photo), strength)
    request = dataclasses.replace(REQUEST, sampler=OURS.get(sampler, sampler), init=init)
    wanted = reference.run(
        "StableDiffusionImg2ImgPipeline", sampler, request, image=photo, strength=strength
    )
    assert psnr(make(exact, request), np.asarray(wanted)) >= EXACT_DB


def inpaint(photo: Image.Image, mask: Image.Image, **options: Any) -> InitSettings:
    strength = options.pop("strength")
    return InitSettings(
        source_of(photo), strength, mask=MaskSettings(source_of(mask), blur=0, **options)
    )


@pytest.mark.parametrize(
    ("sampler", "strength"),
    [("DPM++ 2M", 0.6), ("Euler a", 0.75), ("Heun", 0.35), ("DDIM", 1.0), ("DPM++ 2M", 1.0)],
)
def test_inpainting(exact: Pipeline, reference: Reference, sampler: str, strength: float) -> None:
    """diffusers leaves it to its user to lay the result over the picture."""
    photo, mask = photo_of(*SIZE), mask_of(*SIZE, HALF)
    init = inpaint(photo, mask, strength=strength)
    request = dataclasses.replace(REQUEST, sampler=OURS.get(sampler, sampler), init=init)
    painted = reference.run(
        "StableDiffusionInpaintPipeline",
        sampler,
        request,
        image=photo,
        mask_image=mask,
        strength=strength,
        width=SIZE[0],
        height=SIZE[1],
    )
    ours, wanted = make(exact, request), np.asarray(Image.composite(painted, photo, mask))
    inside = np.asarray(mask) > 0
    assert psnr(ours[inside], wanted[inside]) >= EXACT_DB
    np.testing.assert_array_equal(ours[~inside], np.asarray(photo)[~inside])


def test_inpainting_only_what_is_masked(exact: Pipeline, reference: Reference) -> None:
    photo, mask = photo_of(301, 233), mask_of(301, 233, SMALL)
    init = inpaint(photo, mask, strength=0.8, only_masked=True, padding=12)
    wanted = reference.run(
        "StableDiffusionInpaintPipeline",
        "DPM++ 2M",
        REQUEST,
        image=photo,
        mask_image=mask,
        strength=0.8,
        width=SIZE[0],
        height=SIZE[1],
        padding_mask_crop=12,
    )
    ours = make(exact, dataclasses.replace(REQUEST, sampler="DPM++ 2M", init=init))
    inside = np.asarray(mask) > 0
    assert ours.shape == (233, 301, 3)
    assert psnr(ours[inside], np.asarray(wanted)[inside]) >= EXACT_DB
    np.testing.assert_array_equal(ours[~inside], np.asarray(photo)[~inside])


def test_a_resized_picture(exact: Pipeline, reference: Reference) -> None:
    """The size of the request decides, and "crop and resize" is diffusers' mode `crop`."""
    photo = photo_of(90, 140)
    init = InitSettings(source_of(photo), 0.5, CROP)
    request = dataclasses.replace(REQUEST, sampler="DDIM", init=init)
    from diffusers.image_processor import VaeImageProcessor

    resized = VaeImageProcessor().resize(photo, SIZE[1], SIZE[0], resize_mode="crop")
    wanted = reference.run(
        "StableDiffusionImg2ImgPipeline", "DDIM", request, image=resized, strength=0.5
    )
    assert psnr(make(exact, request), np.asarray(wanted)) >= EXACT_DB


@pytest.mark.parametrize("upscaler", ["latent (bicubic)", "lanczos"])
def test_hires_fix(exact: Pipeline, reference: Reference, upscaler: str) -> None:
    """Two of diffusers' pipelines, one after the other, the second with a fresh generator.

    Seven steps at half the strength are the last seven of fourteen.
    """
    width, height = 2 * SIZE[0] // 3, 2 * SIZE[1] // 3 // 8 * 8
    small = dataclasses.replace(REQUEST, sampler="DPM++ 2M", width=width, height=height)
    hires = HiresSettings(width=SIZE[0], height=SIZE[1], upscaler=upscaler, steps=7, strength=0.5)
    latent = upscaler.startswith("latent")
    first = reference.run(
        "StableDiffusionPipeline",
        "DPM++ 2M",
        small,
        width=width,
        height=height,
        output_type="latent" if latent else "pil",
    )
    if latent:
        size = (SIZE[1] // 8, SIZE[0] // 8)
        image = torch.nn.functional.interpolate(first[None], size, mode="bicubic")
    else:
        image = first.resize(SIZE, Image.Resampling.LANCZOS)
    wanted = reference.run(
        "StableDiffusionImg2ImgPipeline",
        "DPM++ 2M",
        small,
        image=image,
        strength=0.5,
        num_inference_steps=14,
    )
    ours = make(exact, dataclasses.replace(small, hires=hires))
    assert ours.shape == (SIZE[1], SIZE[0], 3)
    assert psnr(ours, np.asarray(wanted)) >= EXACT_DB
