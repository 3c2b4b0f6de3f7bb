"""Several pictures in one: grids, and contact sheets with labelled axes."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont
from PIL.ImageFont import ImageFont as BitmapFont

from runtime.arrays import Pixels

GAP = 4
_PAPER, _INK = 255, (0, 0, 0)
_LEAST_FONT, _CELLS_PER_FONT = 11, 14
_MARGIN = 4

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
        width: of a cell, in pixels.
        height: likewise.
        labelled: whether its axes have labels.
    """
    labels = width if labelled else 0
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

    Args:
        pictures: uint8 [H, W, 3] each, row by row.
        columns: the labels of the columns.
        rows: the labels of the rows.
    """
    grid = make_grid(pictures, len(columns))
    width = max(picture.shape[1] for picture in pictures)
    height = max(len(picture) for picture in pictures)
    font = ImageFont.load_default(max(_LEAST_FONT, width // _CELLS_PER_FONT))
    above = [_wrap(label, font, width) for label in columns]
    beside = [_wrap(label, font, width) for label in rows or ()]
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


def _wrap(label: str, font: _Font, width: int) -> str:
    """Break a label at spaces, or where it must be inside words, to lines of this width."""
    lines = [""]
    for word in label.split():
        longer = f"{lines[-1]} {word}".strip()
        if _text_size(longer, font)[0] <= width:
            lines[-1] = longer
            continue
        lines.append("")
        for letter in word:
            if _text_size(lines[-1] + letter, font)[0] > width:
                lines.append("")
            lines[-1] += letter
    return "\n".join(line for line in lines if line)


def _text_size(text: str, font: _Font) -> tuple[int, int]:
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    left, top, right, bottom = draw.multiline_textbbox((0, 0), text, font)
    return math.ceil(right - left), math.ceil(bottom - min(top, 0))
