"""A finished picture, and PNG files with texts about it."""

import io
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from runtime.arrays import Pixels
from runtime.metadata import (
    PARAMETERS_KEY,
    RECORD_KEY,
    Origin,
    format_parameters,
    format_record,
)
from runtime.request import Settings

_COMPRESSION = 4
"""zlib's level: half the time of Pillow's 6 on photographs, for files at most 4 % larger."""


@dataclass(frozen=True)
class Picture:
    """A finished picture: pixels uint8 [H, W, 3], and what made them."""

    pixels: Pixels
    settings: Settings
    origin: Origin

    def png(self) -> bytes:
        """The picture as a PNG file that says how it was made."""
        return encode_png(
            self.pixels,
            {
                PARAMETERS_KEY: format_parameters(self.settings, self.origin),
                RECORD_KEY: format_record(self.settings, self.origin),
            },
        )


def encode_png(pixels: Pixels, texts: Mapping[str, str]) -> bytes:
    """Pixels uint8 [H, W, 3] as a PNG file with texts by their keys."""
    chunks = PngInfo()
    for key, text in texts.items():
        chunks.add_text(key, text)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", pnginfo=chunks, compress_level=_COMPRESSION)
    return file.getvalue()
