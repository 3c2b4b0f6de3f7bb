"""The webui's text and our record: written, and read back by PIL and by ourselves."""

import dataclasses
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engines import __version__
from engines.errors import InputError
from runtime.guidance import GuidanceSettings
from runtime.hires import HiresSettings
from runtime.init_settings import InitSettings, MaskSettings
from runtime.metadata import (
    format_parameters,
    format_record,
    parse_parameters,
    parse_record,
)
from runtime.picture_file import read_record
from runtime.png import Picture
from runtime.samplers.stochasticity import Stochasticity
from runtime.seeds import NoiseSettings
from runtime.source_picture import SourcePicture
from tests.runtime.examples import ORIGIN, PROMPTS, SETTINGS


def test_the_text_has_the_webuis_layout() -> None:
    assert format_parameters(SETTINGS, ORIGIN) == (
        "cracked skin, a (cat:1.2)\n"
        "Negative prompt: blurry\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 42, "
        "Size: 512x768, Model hash: 0123456789, Model: cracked-skin, RNG: CPU, "
        f"Version: fracture-sd {__version__}"
    )


def test_clip_skip_is_said_where_it_is_not_1_and_an_empty_negative_prompt_is_not() -> None:
    settings = dataclasses.replace(SETTINGS, clip_skip=2, negative="", cfg=7.5)
    text = format_parameters(settings, ORIGIN)
    assert "Negative" not in text
    assert "CFG scale: 7.5, " in text
    assert ", Model: cracked-skin, Clip skip: 2, RNG: CPU, " in text


def test_what_varies_a_seed_is_said() -> None:
    noise = NoiseSettings("nv", 5, 0.25, 256, 320, 31337)
    text = format_parameters(dataclasses.replace(SETTINGS, noise=noise), ORIGIN)
    assert (
        ", Model: cracked-skin, Variation seed: 5, Variation seed strength: 0.25, "
        "Seed resize from: 256x320, ENSD: 31337, RNG: NV, "
    ) in text


def test_guidance_and_sampler_noise_are_said_where_they_are_chosen() -> None:
    settings = dataclasses.replace(
        SETTINGS,
        sampler="Euler",
        schedule="sgm uniform",
        guidance=GuidanceSettings(0.7, 0.1, 0.9),
        stochasticity=Stochasticity(None, 3.5, 0.1, 9.0, 1.003),
    )
    text = format_parameters(settings, ORIGIN)
    assert "Sampler: Euler, Schedule type: SGM Uniform, " in text
    assert (
        ", CFG Rescale: 0.7, Skip Early CFG: 0.1, CFG end: 0.9, Sigma churn: 3.5, "
        "Sigma tmin: 0.1, Sigma tmax: 9, Sigma noise: 1.003, RNG: CPU, "
    ) in text
    assert parse_record(format_record(settings, ORIGIN)) == (settings, ORIGIN)
    for sampler, name, schedule in (
        ("DDIM", "Eta DDIM", "Automatic"),
        ("Euler a", "Eta", "model"),
    ):
        settings = dataclasses.replace(
            SETTINGS, sampler=sampler, schedule="model", stochasticity=Stochasticity(eta=0.0)
        )
        text = format_parameters(settings, ORIGIN)
        assert f", {name}: 0, " in text
        assert f"Schedule type: {schedule}, " in text


PHOTO = SourcePicture.of(np.zeros((8, 16, 3), np.uint8))
MASK = SourcePicture.of(np.full((8, 16), 255, np.uint8))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"init": InitSettings(PHOTO, 0.55)}, "Denoising strength: 0.55, RNG"),
        (
            {"init": InitSettings(PHOTO, mask=MaskSettings(MASK))},
            "Denoising strength: 0.75, Mask blur: 4, RNG",
        ),
        (
            {
                "init": InitSettings(
                    PHOTO,
                    mask=MaskSettings(MASK, 0.0, True, "latent noise", only_masked=True, padding=7),
                )
            },
            "Denoising strength: 0.75, Mask mode: Inpaint not masked, "
            "Masked content: latent noise, Inpaint area: Only masked, Masked area padding: 7, RNG",
        ),
        (
            {"hires": HiresSettings(1.5, 768, 1152, "latent (bicubic)", 10, 0.6)},
            "Denoising strength: 0.6, Hires upscale: 1.5, Hires steps: 10, "
            "Hires upscaler: Latent (bicubic), RNG",
        ),
        (
            {"hires": HiresSettings(0.0, 768, 1152, "lanczos", 10, 0.6)},
            "Denoising strength: 0.6, Hires resize: 768x1152, Hires steps: 10, "
            "Hires upscaler: Lanczos, RNG",
        ),
    ],
)
def test_passes_are_said_as_the_webui_does(fields: dict[str, Any], text: str) -> None:
    said = format_parameters(dataclasses.replace(SETTINGS, **fields), ORIGIN)
    assert f", Model: cracked-skin, {text}: CPU, " in said


def test_the_record_names_pictures_and_keeps_all_settings() -> None:
    mask = MaskSettings(MASK, 1.5, True, "fill", True, 3, True)
    settings = dataclasses.replace(
        SETTINGS, init=InitSettings(PHOTO, 0.3, "resize and fill", mask), vae_tiling="on"
    )
    text = format_record(settings, ORIGIN)
    read, _ = parse_record(text)
    assert read == settings
    assert read.init is not None
    assert read.init.picture.pixels is None
    assert PHOTO.sha256 in text
    hires = dataclasses.replace(SETTINGS, hires=HiresSettings(width=96, height=64))
    assert parse_record(format_record(hires, ORIGIN))[0] == hires
    for wrong in ('"init": 3', '"init": {"strength": 1}'):
        with pytest.raises(InputError, match=r"damaged: settings\.init"):
            parse_record(format_record(SETTINGS, ORIGIN).replace('"init": null', wrong))


def test_a_value_with_a_comma_is_quoted() -> None:
    origin = dataclasses.replace(ORIGIN, bundle='skin, "cracked": v2')
    text = format_parameters(SETTINGS, origin)
    assert 'Model: "skin, \\"cracked\\": v2", ' in text
    assert parse_parameters(text).fields["Model"] == origin.bundle


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("negative", PROMPTS)
def test_the_text_can_be_taken_apart(prompt: str, negative: str) -> None:
    settings = dataclasses.replace(SETTINGS, prompt=prompt, negative=negative)
    parameters = parse_parameters(format_parameters(settings, ORIGIN))
    assert (parameters.prompt, parameters.negative) == (prompt, negative)
    assert parameters.fields == {
        "Steps": "20",
        "Sampler": "DPM++ 2M",
        "Schedule type": "Karras",
        "CFG scale": "7",
        "Seed": "42",
        "Size": "512x768",
        "Model hash": "0123456789",
        "Model": "cracked-skin",
        "RNG": "CPU",
        "Version": f"fracture-sd {__version__}",
    }


def test_a_text_of_the_webui_can_be_taken_apart() -> None:
    parameters = parse_parameters(
        "a cat\nin a hat\nNegative prompt: dog,\nlowres\nSteps: 30, Sampler: Euler a, "
        "Schedule type: Automatic, CFG scale: 5.5, Seed: 1, Size: 512x512, Model hash: cc6cb27103, "
        'Model: v1-5, Lora hashes: "a: 123, b: 456", Version: v1.10.1'
    )
    assert parameters.prompt == "a cat\nin a hat"
    assert parameters.negative == "dog,\nlowres"
    assert parameters.fields["Lora hashes"] == "a: 123, b: 456"
    assert parameters.fields["Sampler"] == "Euler a"
    assert len(parameters.fields) == 10


@pytest.mark.parametrize("prompt", [*PROMPTS, "a\nNegative prompt: b"])
def test_a_picture_keeps_everything_in_its_file(prompt: str, tmp_path: Path) -> None:
    noise = NoiseSettings(source="nv", subseed=7, subseed_strength=0.123456789)
    settings = dataclasses.replace(
        SETTINGS, prompt=prompt, cfg=6.123456789, seed=2**64 - 1, noise=noise
    )
    pixels = np.random.default_rng(0).integers(0, 256, (768, 512, 3)).astype(np.uint8)
    png = Picture(pixels, settings, ORIGIN).png()
    file = tmp_path / "picture.png"
    file.write_bytes(png)
    assert read_record(file) == (settings, ORIGIN)
    with Image.open(io.BytesIO(png)) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)
        assert image.info["parameters"] == format_parameters(settings, ORIGIN)


def test_files_without_a_record_are_refused(tmp_path: Path) -> None:
    plain = tmp_path / "plain.png"
    Image.new("RGB", (8, 8)).save(plain)
    photo = tmp_path / "photo.jpg"
    Image.new("RGB", (8, 8)).save(photo)
    for file in (plain, photo):
        with pytest.raises(InputError, match="holds no record"):
            read_record(file)
    text = tmp_path / "text.png"
    text.write_text("no picture")
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(plain.read_bytes())
    header = struct.pack(">4s2L5B", b"IHDR", 2**15, 2**15, 8, 2, 0, 0, 0)
    content = bytearray(bomb.read_bytes())
    content[12:33] = header + struct.pack(">L", zlib.crc32(header))
    bomb.write_bytes(content)
    for file in (text, bomb):
        with pytest.raises(InputError, match="cannot be read as a picture"):
            read_record(file)
    with pytest.raises(InputError, match="There is no picture"):
        read_record(tmp_path / "missing.png")


def test_damaged_records_are_refused() -> None:
    content = json.loads(format_record(SETTINGS, ORIGIN))
    assert parse_record(json.dumps(content)) == (SETTINGS, ORIGIN)
    with pytest.raises(InputError, match="revision 99; this version reads revision 1"):
        parse_record(json.dumps({**content, "revision": 99}))
    with pytest.raises(InputError, match="damaged"):
        parse_record("{")
    with pytest.raises(InputError, match="revision None"):
        parse_record("[]")
    for hostile in ("[" * 100_000, '"\\ud800"', '{"revision": [' + "9," * 9999 + "9]}"):
        with pytest.raises(InputError, match="record is") as refused:
            parse_record(hostile)
        assert len(str(refused.value)) < 200
    del content["settings"]["steps"]
    with pytest.raises(InputError, match=r"damaged: settings: steps is missing"):
        parse_record(json.dumps(content))
