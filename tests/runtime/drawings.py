"""Pictures and masks to start from, drawn here."""

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from runtime.init_settings import InitSettings, MaskSettings
from runtime.source_picture import SourcePicture

HALF = (0.5, 0.1, 0.95, 0.9)
SMALL = (0.52, 0.25, 0.68, 0.45)
"""Where a mask lies: left, top, right and bottom as parts of the sides."""


def photo_of(width: int, height: int) -> Image.Image:
    """A face of sorts: the model's VAE must make something of it."""
    image = Image.new("RGB", (width, height), (70, 110, 160))
    draw = ImageDraw.Draw(image)
    draw.ellipse((width // 4, height // 6, width * 3 // 4, height * 5 // 6), (180, 140, 110))
    draw.ellipse((width * 3 // 8, height // 3, width * 7 // 16, height * 2 // 5), (30, 20, 20))
    draw.ellipse((width * 9 // 16, height // 3, width * 5 // 8, height * 2 // 5), (30, 20, 20))
    draw.line((width * 3 // 8, height * 2 // 3, width * 5 // 8, height * 2 // 3), (90, 30, 30), 3)
    return image


def mask_of(width: int, height: int, box: tuple[float, float, float, float]) -> Image.Image:
    mask = Image.new("L", (width, height))
    left, top, right, bottom = box
    place = (left * width, top * height, right * width, bottom * height)
    ImageDraw.Draw(mask).ellipse(place, 255)
    return mask


def source_of(image: Image.Image) -> SourcePicture:
    return SourcePicture.of(np.asarray(image))


def inpaint(photo: Image.Image, mask: Image.Image, **options: Any) -> InitSettings:
    strength = options.pop("strength")
    return InitSettings(
        source_of(photo), strength, mask=MaskSettings(source_of(mask), blur=0, **options)
    )
