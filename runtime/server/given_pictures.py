"""Pictures that clients send: decoded only if they are small enough, and of a known kind."""

import base64
import binascii
import contextlib
import io
import re
from collections.abc import Iterator

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.Image import DecompressionBombError

from engines.errors import InputError
from runtime.picture_file import FORMATS, texts_of
from runtime.reading_pictures import reading
from runtime.resize import resize
from runtime.source_picture import SourcePicture, to_still

_START_OF_SCAN = b"\xff\xda"
_MOST_SCANS = 100
"""Of a JPEG file. Usual progressive ones have about ten; each makes the decoder go over the whole
picture, however few bytes it has."""

_DATA_URL = re.compile(r"data:[\w.+/-]*(?:;[\w=.+-]+)*,", re.ASCII)


def decode_base64(text: str, name: str) -> bytes:
    """The bytes of base64 text, which may be a data URL.

    Args:
        text: what the client sent.
        name: its field, for the message.

    Raises:
        InputError: it is no base64.
    """
    start = _DATA_URL.match(text[:200])
    try:
        return base64.b64decode(text[start.end() :] if start else text, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{name} is no base64, nor a data URL of it.") from None


def open_picture(content: bytes, name: str, max_pixels: int) -> Image.Image:
    """Decode a picture after a look at its size, and turn it as its camera says.

    Args:
        content: a PNG, JPEG or WebP file.
        name: its field, for the message.
        max_pixels: the most it may have; more are not decoded.

    Raises:
        InputError: it is no such file, damaged, has too many pixels, or takes too long to decode.
    """
    with _reading(name, max_pixels):
        return to_still(_open(content, name, max_pixels))


def read_parameters(content: bytes, name: str, max_pixels: int) -> str:
    """The webui's text in a picture file, or nothing where it has none.

    Raises:
        InputError: as `open_picture`.
    """
    with _reading(name, max_pixels):
        return texts_of(_open(content, name, max_pixels)).parameters or ""


def _open(content: bytes, name: str, max_pixels: int) -> Image.Image:
    picture = Image.open(io.BytesIO(content), formats=FORMATS)
    width, height = picture.size
    if width * height > max_pixels:
        raise InputError(
            f"{name} has {width}x{height} pixels: this server takes {max_pixels} at most."
        )
    if picture.format == "JPEG" and content.count(_START_OF_SCAN) > _MOST_SCANS:
        raise InputError(f"{name} has more than {_MOST_SCANS} scans: save it as a usual JPEG file.")
    return picture


@contextlib.contextmanager
def _reading(name: str, max_pixels: int) -> Iterator[None]:
    kinds = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
    with reading(name, kinds):
        try:
            yield
        except DecompressionBombError:
            raise InputError(
                f"{name} has too many pixels: this server takes {max_pixels} at most."
            ) from None
        except UnidentifiedImageError:
            raise InputError(f"{name} is no {kinds} file.") from None


def read_picture(text: str, name: str, max_pixels: int) -> SourcePicture:
    """The picture in base64 text, turned as its camera says; what is transparent is white.

    Raises:
        InputError: as `decode_base64` and `open_picture`.
    """
    return SourcePicture.from_image(open_picture(decode_base64(text, name), name, max_pixels))


def read_mask(text: str, name: str, max_pixels: int) -> SourcePicture:
    """The mask in base64 text: its transparency where it has any, else how light it is.

    Raises:
        InputError: as `decode_base64` and `open_picture`.
    """
    return SourcePicture.mask_from_image(open_picture(decode_base64(text, name), name, max_pixels))


def as_large_as(mask: SourcePicture, picture: SourcePicture) -> SourcePicture:
    """A mask stretched to its picture's size."""
    pixels = mask.loaded("mask")
    return SourcePicture.of(resize(pixels, picture.width, picture.height))


def mask_of_transparency(image: Image.Image) -> SourcePicture | None:
    """OpenAI's mask: what is fully transparent is painted; None where nothing is transparent."""
    if not image.has_transparency_data:
        return None
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    return SourcePicture.of(255 - alpha) if (alpha < 255).any() else None
