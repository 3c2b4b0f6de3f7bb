"""Pictures that clients send: decoded only if they are small enough, and of a known kind."""

import base64
import binascii
import io
import re

from PIL import Image, UnidentifiedImageError
from PIL.Image import DecompressionBombError

from engines.errors import InputError

FORMATS = ("PNG", "JPEG", "WEBP")

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
    """Decode a picture after a look at its size.

    Args:
        content: a PNG, JPEG or WebP file.
        name: its field, for the message.
        max_pixels: the most it may have; more are not decoded.

    Raises:
        InputError: it is no such file, damaged, or has too many pixels.
    """
    try:
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
        width, height = picture.size
        if width * height > max_pixels:
            raise InputError(
                f"{name} has {width}x{height} pixels: this server takes {max_pixels} at most."
            )
        picture.load()
    except DecompressionBombError:
        raise InputError(
            f"{name} has too many pixels: this server takes {max_pixels} at most."
        ) from None
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise InputError(
            f"{name} cannot be read as {', '.join(FORMATS[:-1])} or {FORMATS[-1]}: {error}."
        ) from error
    return picture
