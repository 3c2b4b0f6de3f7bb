"""PNG files with the metadata of their pictures."""

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile, PngInfo

from engines.errors import InputError
from runtime.metadata import (
    PARAMETERS_KEY,
    RECORD_KEY,
    Origin,
    format_parameters,
    format_record,
    parse_record,
)
from runtime.picture import Pixels
from runtime.request import Settings


@dataclass(frozen=True)
class Picture:
    """A finished picture: pixels uint8 [H, W, 3], and what made them."""

    pixels: Pixels
    settings: Settings
    origin: Origin

    def png(self) -> bytes:
        """The picture as a PNG file that says how it was made."""
        texts = PngInfo()
        texts.add_text(PARAMETERS_KEY, format_parameters(self.settings, self.origin))
        texts.add_text(RECORD_KEY, format_record(self.settings, self.origin))
        file = io.BytesIO()
        Image.fromarray(self.pixels).save(file, "PNG", pnginfo=texts)
        return file.getvalue()


def read_record(path: Path) -> tuple[Settings, Origin]:
    """What made the picture in a PNG file of ours.

    Raises:
        InputError: the file cannot be read, is no PNG, or holds no record.
    """
    try:
        with Image.open(path) as image:
            text = image.text.get(RECORD_KEY) if isinstance(image, PngImageFile) else None
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"{path} cannot be read as a picture: {error}.") from error
    if text is None:
        raise InputError(f"{path} holds no record of how it was made.")
    return parse_record(text)
