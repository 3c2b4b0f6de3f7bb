"""Pictures and masks that are given, named by their content."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image, ImageOps

from engines.errors import InputError, SettingError
from runtime.arrays import Pixels
from runtime.reading_pictures import opened

NOT_RECORDED = "not recorded"
"""The metadata of fields that a picture's record leaves out."""

_BACKGROUND = "white"
_WANTED = "give uint8 [height, width, 3], or [height, width] for a mask"
_MOST_PIXELS = 2**26
"""Of a file that is read: 8192x8192."""
_FILMS = ("GIF", "PNG", "WEBP", "AVIF")
"""Formats in which several pictures are a film; in others they are pages or previews."""


@dataclass(frozen=True)
class SourcePicture:
    """A picture [H, W, 3] or a mask [H, W], uint8. Two are equal whose content is.

    Attributes:
        sha256: of the size and the pixels, in hexadecimal; the file's format does not matter.
        width: in pixels.
        height: in pixels.
        pixels: None where only a record names the picture.
    """

    sha256: str
    width: int
    height: int
    pixels: Pixels | None = field(
        default=None, repr=False, compare=False, metadata={NOT_RECORDED: True}
    )

    @classmethod
    def of(cls, pixels: Pixels) -> Self:
        """Name pixels [H, W, 3] or [H, W]; they must not change afterwards.

        Raises:
            InputError: they have another type, shape or dtype, or are none.
        """
        if not isinstance(pixels, np.ndarray):
            raise InputError(
                f"A {type(pixels).__name__} is no array of numpy's: {_WANTED}. Pillow's pictures "
                "are taken by from_image and mask_from_image."
            )
        form = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
        if not form or pixels.dtype != np.uint8 or not pixels.size:
            raise InputError(
                f"An array of {pixels.dtype} {list(pixels.shape)} is no picture: {_WANTED}."
            )
        height, width = pixels.shape[:2]
        digest = hashlib.sha256(f"{width}x{height}x{pixels.ndim}".encode())
        digest.update(pixels.tobytes())
        return cls(digest.hexdigest(), width, height, pixels)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read a picture, turned as its camera says; what is transparent becomes white.

        Raises:
            InputError: the file cannot be read, is no picture, or has too many pixels.
        """
        with _still(path) as image:
            return cls.from_image(image)

    @classmethod
    def from_image(cls, image: Image.Image) -> Self:
        """Take a decoded picture; what is transparent becomes white."""
        if image.has_transparency_data:
            image = image.convert("RGBA")
            ground = Image.new("RGBA", image.size, _BACKGROUND)
            image = Image.alpha_composite(ground, image)
        return cls.of(np.asarray(image.convert("RGB")))

    @classmethod
    def open_mask(cls, path: Path) -> Self:
        """Read a mask: its transparency where it has any, else how light it is.

        Raises:
            InputError: the file cannot be read, is no picture, or has too many pixels.
        """
        with _still(path) as image:
            return cls.mask_from_image(image)

    @classmethod
    def mask_from_image(cls, image: Image.Image) -> Self:
        """Take a decoded mask: its transparency where it has any, else how light it is."""
        if image.has_transparency_data:
            alpha = image.convert("RGBA").getchannel("A")
            if alpha.getextrema() != (255, 255):
                return cls.of(np.asarray(alpha))
        return cls.of(np.asarray(image.convert("RGB").convert("L")))

    def loaded(self, name: str, option: str = "") -> Pixels:
        """The pixels.

        Args:
            name: what the picture is for the request, in the message: "picture" or "mask".
            option: with which the command line gives it.

        Raises:
            SettingError: only a record names them.
        """
        if self.pixels is None:
            raise SettingError(f"{self.missing(name, option)}.")
        return self.pixels

    def missing(self, name: str, option: str = "") -> str:
        """What to say where only a record names the pixels; the arguments are as in `loaded`."""
        return (
            f"the {name} of {self.width}x{self.height} whose pixels have the sha256 "
            f"{self.sha256[:16]}… is needed: give it again{option and f' ({option})'}"
        )


@contextlib.contextmanager
def _still(path: Path) -> Iterator[Image.Image]:
    with opened(path) as image:
        if image.width * image.height > _MOST_PIXELS:
            raise InputError(
                f"{path} has {image.width}x{image.height} pixels. Make it smaller: "
                f"{_MOST_PIXELS} pixels are the most."
            )
        yield to_still(image)


def to_still(image: Image.Image) -> Image.Image:
    """Load an opened picture, turned as its camera says, with eight bits a value.

    Pillow by itself takes a film's first picture, and cuts grey levels of sixteen bits off at 255.

    Raises:
        ValueError: it is a film, or its values have no known range.
        OSError: it is damaged.
    """
    if image.format in _FILMS and getattr(image, "is_animated", False):
        raise ValueError("it is animated; save one of its pictures")
    if image.mode in ("I", "F"):
        raise ValueError("its values have 32 bits and no known range; save it with 8 or 16")
    image.load()
    image = ImageOps.exif_transpose(image)
    if not image.mode.startswith("I;16"):
        return image
    levels = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))
