"""Several pictures in one: grids, and contact sheets with labelled axes."""

import itertools
import logging
import math
import reprlib
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont
from PIL.ImageFont import ImageFont as BitmapFont

from runtime.arrays import Pixels

GAP = 4
_PAPER, _INK = 255, (0, 0, 0)
_LEAST_FONT, _CELLS_PER_FONT = 11, 14
_MARGIN = 4
_ELLIPSIS = "…"
_TALLEST = "|j"
_NO_LETTER = "\U0010ffff"
"""A code point that no font has."""

log = logging.getLogger(__name__)

_Font = FreeTypeFont | BitmapFont


def default_columns(count: int) -> int:
    """Columns of a grid that is about as wide as high, the wider way."""
    return math.ceil(math.sqrt(count))


def sheet_size(
    columns: int, rows: int, width: int, height: int, *, labelled: bool
) -> tuple[int, int]:
    """The width and height of a sheet, at most, in pixels.

    Args:
        columns: of cells.
        rows: of cells.
        width: of a cell, in pixels; no less than that of a letter.
        height: likewise.
        labelled: whether its axes have labels.
    """
    labels = width + 2 * _MARGIN if labelled else 0
    return columns * (width + GAP) - GAP + labels, rows * (height + GAP) - GAP + labels


def make_grid(pictures: Sequence[Pixels], columns: int) -> Pixels:
    """Pictures side by side, row by row, from the upper left corners of cells of one size.

    Args:
        pictures: uint8 [H, W, 3] each.
        columns: in a row.

    Returns:
        uint8 [H, W, 3]; what no picture covers is white.
    """
    height = max(len(picture) for picture in pictures)
    width = max(picture.shape[1] for picture in pictures)
    rows = math.ceil(len(pictures) / columns)
    total = (rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3)
    grid: Pixels = np.full(total, _PAPER, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = (index // columns) * (height + GAP), (index % columns) * (width + GAP)
        grid[top : top + len(picture), left : left + picture.shape[1]] = picture
    return grid


def make_sheet(
    pictures: Sequence[Pixels], columns: Sequence[str], rows: Sequence[str] | None
) -> Pixels:
    """A grid with a label above each column and, where there are any, beside each row.

    Labels are no wider than a picture, those above no higher than wide, and those beside no higher
    than a picture; where one does not fit it ends in an ellipsis.

    Args:
        pictures: uint8 [H, W, 3] each, row by row.
        columns: the labels of the columns.
        rows: the labels of the rows.
    """
    grid = make_grid(pictures, len(columns))
    width = max(picture.shape[1] for picture in pictures)
    height = max(len(picture) for picture in pictures)
    font = ImageFont.load_default(max(_LEAST_FONT, width // _CELLS_PER_FONT))
    above = [_wrap(label, font, width, width) for label in columns]
    beside = [_wrap(label, font, width, height) for label in rows or ()]
    top = max(_text_size(label, font)[1] for label in above) + 2 * _MARGIN
    left = max((_text_size(label, font)[0] for label in beside), default=-2 * _MARGIN) + 2 * _MARGIN
    sheet = Image.new("RGB", (left + grid.shape[1], top + len(grid)), (_PAPER,) * 3)
    sheet.paste(Image.fromarray(grid), (left, top))
    draw = ImageDraw.Draw(sheet)
    for column, label in enumerate(above):
        middle = left + column * (width + GAP) + width / 2
        draw.multiline_text((middle, top - _MARGIN), label, _INK, font, anchor="md", align="center")
    for row, label in enumerate(beside):
        middle = top + row * (height + GAP) + height / 2
        draw.multiline_text((left - _MARGIN, middle), label, _INK, font, anchor="rm", align="right")
    return np.asarray(sheet)


def warn_of_missing_letters(labels: Sequence[str]) -> None:
    """Say which labels have letters that the font, Pillow's own, draws as empty boxes."""
    font = ImageFont.load_default(_LEAST_FONT)
    box = bytes(font.getmask(_NO_LETTER))
    letters = {letter for label in labels for letter in label if not letter.isspace()}
    missing = {letter for letter in letters if bytes(font.getmask(letter)) == box}
    boxed = [reprlib.repr(label) for label in labels if missing.intersection(label)]
    if boxed:
        log.warning("labels of the sheet get empty boxes for letters: %s", ", ".join(boxed))


def _wrap(label: str, font: _Font, width: int, height: int) -> str:
    """Break a label into lines of this width, of which those that fit into the height are kept."""
    one, two = (_text_size("\n".join([_TALLEST] * lines), font)[1] for lines in (1, 2))
    most = max(1, 1 + (height - one) // (two - one))
    lines = list(itertools.islice(_lines(label, font, width), most + 1))
    if len(lines) <= most:
        return "\n".join(lines)
    last = lines[most - 1]
    while last and _text_size(last + _ELLIPSIS, font)[0] > width:
        last = last[:-1]
    return "\n".join([*lines[: most - 1], last + _ELLIPSIS])


def _lines(label: str, font: _Font, width: int) -> Iterator[str]:
    """Break a label at spaces, or where it must be inside words, to lines of this width."""
    line = ""
    for word in label.split():
        longer = f"{line} {word}".strip()
        if _text_size(longer, font)[0] <= width:
            line = longer
            continue
        if line:
            yield line
        line = ""
        for letter in word:
            if line and _text_size(line + letter, font)[0] > width:
                yield line
                line = ""
            line += letter
    if line:
        yield line


def _text_size(text: str, font: _Font) -> tuple[int, int]:
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    left, top, right, bottom = draw.multiline_textbbox((0, 0), text, font)
    return math.ceil(right - left), math.ceil(bottom - min(top, 0))
