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
@pytest.mark.parametrize(
    ("small", "covering", "cut"),
    [
        # 104 * 80 / 64 = 130 pixels, 16 latents, of which 15 are 120 pixels: the last one goes
        ((80, 64), (130, 104), np.s_[:, :, :, 0:15]),
        # 120 * 80 / 64 = 150 pixels, 18 latents, of which 13 are 104 pixels: 2 and 3 of them go
        ((64, 80), (120, 150), np.s_[:, :, 2:15, :]),
    ],
)
def test_hires_fix(
    exact: Pipeline,
    reference: Reference,
    upscaler: str,
    small: tuple[int, int],
    covering: tuple[int, int],
    cut: tuple[slice, ...],
) -> None:
    """Two of diffusers' pipelines, one after the other, the second with a fresh generator.

    Between them is the webui's arithmetic: the picture is enlarged until it covers the size, and
    its latents are cut. Seven steps at half the strength are the last seven of fourteen.
    """
    request = dataclasses.replace(REQUEST, sampler="DPM++ 2M", width=small[0], height=small[1])
    hires = HiresSettings(width=SIZE[0], height=SIZE[1], upscaler=upscaler, steps=7, strength=0.5)
    latent = upscaler.startswith("latent")
    first = reference.run(
        "StableDiffusionPipeline",
        "DPM++ 2M",
        request,
        width=small[0],
        height=small[1],
        output_type="latent" if latent else "pil",
    )
    assert request.seed is not None
    generator = torch.Generator().manual_seed(request.seed)
    if latent:
        size = (covering[1] // 8, covering[0] // 8)
        image = torch.nn.functional.interpolate(first[None], size, mode="bicubic")
    else:
        larger = first.resize(covering, Image.Resampling.LANCZOS)
        whole = larger.crop((0, 0, covering[0] // 8 * 8, covering[1] // 8 * 8))
        image = reference.encode(whole, generator)
    wanted = reference.run(
        "StableDiffusionImg2ImgPipeline",
        "DPM++ 2M",
        request,
        image=image[cut],
        strength=0.5,
        num_inference_steps=14,
        generator=generator,
    )
    ours = make(exact, dataclasses.replace(request, hires=hires))
    assert ours.shape == (SIZE[1], SIZE[0], 3)
    assert psnr(ours, np.asarray(wanted)) >= EXACT_DB
