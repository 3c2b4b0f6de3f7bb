"""Picture files of every format: pixels, the webui's text and our record."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines.errors import InputError, SettingError
from runtime.metadata import format_parameters
from runtime.picture_file import (
    FORMATS,
    check_sheet,
    check_size,
    check_texts,
    encode,
    encode_sheet,
    read_record,
    read_texts,
)
from runtime.png import Picture
from tests.runtime.examples import ORIGIN, PROMPTS, SETTINGS, SMOOTH

PICTURE = Picture(SMOOTH, SETTINGS, ORIGIN)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_file_says_how_it_was_made(kind: str, prompt: str, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, prompt=prompt, cfg=6.123456789, seed=2**64 - 1)
    file = tmp_path / "picture"
    file.write_bytes(encode(Picture(SMOOTH, settings, ORIGIN), kind))
    assert read_record(file) == (settings, ORIGIN)
    assert read_texts(file).parameters == format_parameters(settings, ORIGIN)
    with Image.open(file) as image:
        assert image.format == kind
        near = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(near - SMOOTH).max() <= (0 if kind == "PNG" else 24)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_less_quality_is_a_smaller_file(kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    noisy = dataclasses.replace(PICTURE, pixels=pixels)
    sizes = [len(encode(noisy, kind, quality)) for quality in (10, 50, 95)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("kind", ["JPG", "png", "GIF", ""])
def test_formats_that_are_none(kind: str) -> None:
    message = f"no format '{kind}'; choose one of PNG, JPEG, WEBP"
    with pytest.raises(SettingError, match=message):
        encode(PICTURE, kind)
    with pytest.raises(SettingError, match=message):
        encode_sheet(SMOOTH, kind, 90, "")
    with pytest.raises(SettingError, match=message):
        check_size(8, 8, kind)
    with pytest.raises(SettingError, match=message):
        check_sheet(8, 8, kind)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize("quality", [-5, 0, 101])
def test_qualities_that_are_none(kind: str, quality: int) -> None:
    message = f"The quality {quality} is not possible; choose 1 to 100"
    with pytest.raises(SettingError, match=message):
        encode(PICTURE, kind, quality)
    with pytest.raises(SettingError, match=message):
        encode_sheet(SMOOTH, kind, quality, "")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_sheet_has_the_text_only(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "sheet"
    file.write_bytes(encode_sheet(SMOOTH, kind, 90, "a cat\nSteps: 3"))
    assert read_texts(file).parameters == "a cat\nSteps: 3"
    with pytest.raises(InputError, match="holds no record"):
        read_record(file)


def test_prompts_too_long_for_a_format_are_known_before() -> None:
    long = dataclasses.replace(SETTINGS, prompt="x" * 10_000, negative="中" * 10_000)
    check_texts(long, ORIGIN, "PNG")
    for kind in ("JPEG", "WEBP"):
        check_texts(SETTINGS, ORIGIN, kind)
        with pytest.raises(SettingError, match="too long"):
            check_texts(long, ORIGIN, kind)


@pytest.mark.parametrize(("kind", "most"), [("JPEG", 65_500), ("WEBP", 16_383)])
def test_a_picture_as_large_as_a_format_has_it(kind: str, most: int) -> None:
    """Pillow writes one that is, and no larger one, which is known before."""
    long = np.zeros((most, 8, 3), np.uint8)
    check_size(8, most, kind)
    assert encode(dataclasses.replace(PICTURE, pixels=long), kind)
    with pytest.raises(SettingError, match=rf"8x{most + 1} pixels is not .* {kind}: {most} pixels"):
        check_size(8, most + 1, kind)
    longer = np.zeros((8, most + 1, 3), np.uint8)
    with pytest.raises((ValueError, OSError)):
        Image.fromarray(longer).save(io.BytesIO(), kind)
    message = rf"{most + 1}x8 pixels is not possible as {kind}.* Write PNG"
    with pytest.raises(SettingError, match=message):
        encode(dataclasses.replace(PICTURE, pixels=longer), kind)
    with pytest.raises(SettingError, match=message):
        encode_sheet(longer, kind, 90, "")
    check_size(most + 1, 8, "PNG")
    assert encode(dataclasses.replace(PICTURE, pixels=longer))


@pytest.mark.parametrize(
    ("width", "height", "kind"), [(16_384, 8, "WEBP"), (8, 70_000, "PNG"), (20_000, 20_000, "PNG")]
)
def test_sheets_too_large_are_known_before(width: int, height: int, kind: str) -> None:
    check_sheet(2048, 2048, kind)
    with pytest.raises(SettingError, match=f"{width}x{height} pixels is not possible as {kind}"):
        check_sheet(width, height, kind)


def test_a_description_of_another_program_is_no_record(tmp_path: Path) -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "holiday"
    Image.new("RGB", (8, 8)).save(file, "JPEG", exif=exif)
    (tmp_path / "a.jpg").write_bytes(file.getvalue())
    assert read_texts(tmp_path / "a.jpg").record is None
    assert read_texts(tmp_path / "a.jpg").parameters is None
