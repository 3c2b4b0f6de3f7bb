"""Pictures that start from pictures are those of diffusers: img2img, inpainting, hires fix."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from runtime.hires import HiresSettings
from runtime.init_settings import InitSettings
from runtime.pipeline import Pipeline
from runtime.resize import CROP
from tests.runtime.against_diffusers import EXACT_DB, OURS, REQUEST, SIZE, Reference, make, psnr
from tests.runtime.drawings import HALF, SMALL, inpaint, mask_of, photo_of, source_of

# torch's tensors meet numpy 2 inside diffusers' scheduler.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


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
