"""Opening picture files of others, which may be damaged in any way."""

import contextlib
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from PIL import Image

from engines.errors import InputError, UserError

_opening: Final = threading.Lock()
"""Held while warnings are silent, for that is a setting of the whole process."""


@contextlib.contextmanager
def reading(name: str, kinds: str) -> Iterator[None]:
    """Turn whatever a damaged file leads Pillow's readers to into the user's error.

    Args:
        name: of the file, for the message.
        kinds: what it should have been, likewise.

    Raises:
        InputError: it cannot be read.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"{name} cannot be read as {kinds}: {reason}.") from error


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A picture file, to be decoded in the block; how many pixels are too many, the block says.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    with reading(str(path), "a picture"):
        try:
            image = _open_quietly(path)
        except FileNotFoundError:
            raise InputError(f"There is no picture {path}.") from None
        with image:
            yield image


def _open_quietly(path: Path) -> Image.Image:
    """Open a file without Pillow's warning of many pixels; its error at twice as many stays."""
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path)
