"""Picture files that say how they were made: PNG, JPEG and WebP, written and read."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from engines.errors import InputError, SettingError
from runtime.arrays import Pixels
from runtime.exif import pack_exif, read_exif
from runtime.metadata import (
    PARAMETERS_KEY,
    RECORD_KEY,
    Origin,
    format_parameters,
    format_record,
    parse_record,
)
from runtime.png import Picture, encode_png
from runtime.reading_pictures import opened
from runtime.request import Settings

FORMATS = ("PNG", "JPEG", "WEBP")
"""Pillow's names of the formats."""
QUALITY = 95
"""Of lossy pictures, as Pillow counts it: 1 to 100."""

_MOST_SIDE = {"PNG": 2**16, "JPEG": 65_500, "WEBP": 16_383}
_MOST_PIXELS = 2**27


@dataclass(frozen=True)
class Texts:
    """What a picture file says: the webui's text and our record, each None where it is not."""

    parameters: str | None
    record: str | None


def encode(picture: Picture, kind: str = "PNG", quality: int = QUALITY) -> bytes:
    """A picture as a file that says how it was made.

    Args:
        picture: the picture.
        kind: one of `FORMATS`.
        quality: of JPEG and WebP, 1 to 100.

    Raises:
        SettingError: there is no such format or quality, the picture is too large for the format,
            or its prompts for the format's metadata.
    """
    if kind == "PNG":
        return picture.png()
    parameters = format_parameters(picture.settings, picture.origin)
    record = format_record(picture.settings, picture.origin)
    return _encode_lossy(picture.pixels, kind, quality, parameters, record)


def encode_sheet(pixels: Pixels, kind: str, quality: int, parameters: str) -> bytes:
    """Several pictures in one as a file.

    Args:
        pixels: uint8 [H, W, 3].
        kind: one of `FORMATS`.
        quality: of JPEG and WebP, 1 to 100.
        parameters: the webui's text.

    Raises:
        SettingError: there is no such format or quality, the sheet is too large for the format, or
            the text for the format's metadata.
    """
    if kind == "PNG":
        return encode_png(pixels, {PARAMETERS_KEY: parameters})
    return _encode_lossy(pixels, kind, quality, parameters, None)


def check_size(width: int, height: int, kind: str) -> None:
    """Refuse a picture of a size that a format does not have, before any work is done.

    Raises:
        SettingError: it is too long or too high; PNG holds all that can be made. Or there is no
            such format.
    """
    most = _most_side(kind)
    if kind != "PNG" and max(width, height) > most:
        raise SettingError(
            f"A picture of {width}x{height} pixels is not possible as {kind}: {most} pixels a side "
            "are the most. Write PNG."
        )


def check_quality(quality: int) -> None:
    """Refuse a quality that JPEG and WebP do not have.

    Raises:
        SettingError: it is not from 1 to 100.
    """
    if not 1 <= quality <= 100:
        raise SettingError(f"The quality {quality} is not possible; choose 1 to 100.")


def check_sheet(width: int, height: int, kind: str) -> None:
    """Refuse a sheet of this many pixels before any work for it is done.

    Raises:
        SettingError: the format, or a machine's memory, does not hold it, or there is no such
            format.
    """
    most = _most_side(kind)
    if max(width, height) > most or width * height > _MOST_PIXELS:
        raise SettingError(
            f"A sheet of {width}x{height} pixels is not possible as {kind}: choose fewer or "
            f"smaller pictures, to {most} pixels a side and {_MOST_PIXELS // 10**6} million in all."
        )


def check_texts(settings: Settings, origin: Origin, kind: str) -> None:
    """Refuse prompts that a format's metadata does not hold, before any work is done.

    Raises:
        SettingError: they are too long.
    """
    if kind != "PNG":
        _exif(format_parameters(settings, origin), format_record(settings, origin))


def check_sheet_text(parameters: str, kind: str) -> None:
    """Likewise for the text of a sheet, which has no record.

    Raises:
        SettingError: it is too long.
    """
    if kind != "PNG":
        _exif(parameters, None)


def read_texts(path: Path) -> Texts:
    """What a picture file says about how it was made.

    Raises:
        InputError: the file cannot be read as a picture.
    """
    with opened(path) as image:
        return texts_of(image)


def texts_of(image: Image.Image) -> Texts:
    """What an opened picture file says about how it was made; decodes all of a PNG file."""
    if isinstance(image, PngImageFile):
        return Texts(image.text.get(PARAMETERS_KEY), image.text.get(RECORD_KEY))
    comment, description = read_exif(image)
    prefix = f"{RECORD_KEY}: "
    if description is None or not description.startswith(prefix):
        return Texts(comment, None)
    return Texts(comment, description.removeprefix(prefix))


def read_record(path: Path) -> tuple[Settings, Origin]:
    """What made the picture in a file of ours.

    Raises:
        InputError: the file cannot be read, is no picture, or holds no record.
    """
    record = read_texts(path).record
    if record is None:
        raise InputError(f"{path} holds no record of how it was made.")
    return parse_record(record)


def _most_side(kind: str) -> int:
    """How many pixels a side of a picture has at most."""
    if kind not in FORMATS:
        raise SettingError(f"There is no format {kind!r}; choose one of {', '.join(FORMATS)}.")
    return _MOST_SIDE[kind]


def _encode_lossy(
    pixels: Pixels, kind: str, quality: int, parameters: str, record: str | None
) -> bytes:
    height, width = pixels.shape[:2]
    check_size(width, height, kind)
    check_quality(quality)
    file = io.BytesIO()
    exif = _exif(parameters, record)
    Image.fromarray(pixels).save(file, kind, exif=exif, quality=quality, subsampling=0)
    return file.getvalue()


def _exif(parameters: str, record: str | None) -> bytes:
    """The record in ASCII, which JSON can be."""
    description = None if record is None else f"{RECORD_KEY}: {json.dumps(json.loads(record))}"
    return pack_exif(parameters, description)
