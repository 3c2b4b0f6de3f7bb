"""Pictures that are given: read as users mean them, named by their content."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engines.errors import InputError, SettingError
from runtime.source_picture import SourcePicture

PIXELS = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)


def test_content_is_the_name(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    Image.fromarray(PIXELS).save(tmp_path / "b.bmp")
    opened = SourcePicture.open(tmp_path / "a.png")
    assert opened == SourcePicture.open(tmp_path / "b.bmp") == SourcePicture.of(PIXELS)
    assert (opened.width, opened.height) == (4, 5)
    np.testing.assert_array_equal(opened.loaded("A test"), PIXELS)
    assert opened != SourcePicture.of(PIXELS.reshape(4, 5, 3))
    assert SourcePicture.of(PIXELS[..., 0]) != SourcePicture.of(np.tile(PIXELS[..., :1], 3))


@pytest.mark.parametrize("given", [Image.new("RGB", (2, 2)), [[1, 2], [3, 4]], None, "a.png"])
def test_only_arrays_are_taken_as_pixels(given: Any) -> None:
    with pytest.raises(InputError, match=rf"A {type(given).__name__} is no array .* from_image"):
        SourcePicture.of(given)


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
    image.putpixel((1, 0), (9, 9, 9, 0))
    image.save(tmp_path / "a.png")
    opened = SourcePicture.open(tmp_path / "a.png").loaded("A test")
    assert opened.tolist() == [[[200, 0, 0], [255, 255, 255]]]


def test_pictures_are_turned_as_the_camera_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    opened = SourcePicture.open(tmp_path / "a.png").loaded("A test")
    np.testing.assert_array_equal(opened, np.rot90(PIXELS, -1))


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "1", "CMYK", "I;16"])
def test_every_mode_is_read(mode: str, tmp_path: Path) -> None:
    file = tmp_path / ("a.tif" if mode in ("CMYK", "I;16") else "a.png")
    Image.new(mode, (3, 2)).save(file)
    assert SourcePicture.open(file).loaded("A test").shape == (2, 3, 3)
    assert SourcePicture.open_mask(file).loaded("A test").shape == (2, 3)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_to_eight(suffix: str, tmp_path: Path) -> None:
    """Pillow's own conversion makes everything above 255 white."""
    levels = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(levels).save(file)
    wanted = np.round(levels / 257).astype(np.uint8)
    np.testing.assert_array_equal(SourcePicture.open_mask(file).loaded("A test"), wanted)
    opened = SourcePicture.open(file).loaded("A test")
    np.testing.assert_array_equal(opened, np.tile(wanted[..., None], 3))


def test_sixteen_bits_are_turned_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    levels = PIXELS[..., 0].astype(np.uint16) * 257
    Image.fromarray(levels).save(tmp_path / "a.png", exif=exif)
    opened = SourcePicture.open_mask(tmp_path / "a.png").loaded("A test")
    np.testing.assert_array_equal(opened, np.rot90(PIXELS[..., 0], -1))


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_values_of_no_known_range_are_refused(kind: type, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 3), kind)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.tif .* 32 bits and no known range"):
        SourcePicture.open_mask(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_a_film_is_refused(kind: str, tmp_path: Path) -> None:
    first, second = Image.new("RGB", (3, 2)), Image.new("RGB", (3, 2), "white")
    first.save(tmp_path / "film", kind, save_all=True, append_images=[second])
    with pytest.raises(InputError, match=r"film .* is animated; save one"):
        SourcePicture.open(tmp_path / "film")


def test_a_preview_behind_a_photo_makes_no_film(tmp_path: Path) -> None:
    """Telephones write two pictures into one JPEG file."""
    photo, preview = Image.new("RGB", (3, 2)), Image.new("RGB", (3, 2), "white")
    photo.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[preview])
    assert not SourcePicture.open(tmp_path / "a.jpg").loaded("A test").any()


def test_a_mask_is_transparency_or_light(tmp_path: Path) -> None:
    grey = Image.fromarray(PIXELS[..., 0])
    grey.save(tmp_path / "grey.png")
    np.testing.assert_array_equal(
        SourcePicture.open_mask(tmp_path / "grey.png").loaded("A test"), PIXELS[..., 0]
    )
    drawn = Image.fromarray(PIXELS)
    drawn.putalpha(grey)
    drawn.save(tmp_path / "drawn.png")
    np.testing.assert_array_equal(
        SourcePicture.open_mask(tmp_path / "drawn.png").loaded("A test"), PIXELS[..., 0]
    )
    drawn.putalpha(255)
    drawn.save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(
        SourcePicture.open_mask(tmp_path / "opaque.png").loaded("A test"),
        np.asarray(Image.fromarray(PIXELS).convert("L")),
    )


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(
        whole
    )
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(InputError, match="There is no picture"):
        SourcePicture.open(tmp_path / "missing.png")
    for name in ("text.png", "cut.png", "."):
        with pytest.raises(InputError, match="cannot be read as a picture"):
            SourcePicture.open(tmp_path / name)
    Image.new("1", (8193, 8192)).save(tmp_path / "large.png")
    with pytest.raises(InputError, match="8193x8192 pixels"):
        SourcePicture.open_mask(tmp_path / "large.png")


@pytest.mark.parametrize(
    "pixels", [PIXELS.astype(np.float32), PIXELS[0, 0], np.zeros((2, 2, 4), np.uint8), PIXELS[:0]]
)
def test_arrays_that_are_no_pictures_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(InputError, match="is no picture: give uint8"):
        SourcePicture.of(pixels)


def test_a_picture_that_is_only_named_is_asked_for() -> None:
    with pytest.raises(SettingError, match=r"the mask of 4x5 .* abc… is needed: give it again\.$"):
        SourcePicture("abc", 4, 5).loaded("mask")
    with pytest.raises(SettingError, match=r"the picture of 4x5 .* again \(--init\)\.$"):
        SourcePicture("abc", 4, 5).loaded("picture", "--init")
