"""Pictures and masks in other sizes, as diffusers and the webui resize them."""

import numpy as np
from PIL import Image

from runtime.arrays import Pixels

Size = tuple[int, int]
"""Width and height in pixels."""

STRETCH = "just resize"
CROP = "crop and resize"
FILL = "resize and fill"
RESIZE_MODES = (STRETCH, CROP, FILL)
"""The webui's names. In diffusers' VaeImageProcessor they are default, crop and fill."""
EXTEND = "extend"
"""No resizing: the outermost pixels are repeated to the right and below."""
MODES = (*RESIZE_MODES, EXTEND)

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def resize(
    pixels: Pixels, width: int, height: int, mode: str = STRETCH, method: str = "lanczos"
) -> Pixels:
    """Resize a picture or mask; one that has the size already is returned as it is.

    Args:
        pixels: [H, W, 3] or [H, W].
        width: in pixels.
        height: in pixels.
        mode: one of `MODES`. "crop and resize" keeps the proportions and cuts off what is too much;
            "resize and fill" keeps the whole and repeats its outermost pixels around; "extend" is
            for sizes that are not below the picture's.
        method: one of `FILTERS`.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    if mode == EXTEND:
        more = (0, height - pixels.shape[0]), (0, width - pixels.shape[1])
        extended: Pixels = np.pad(pixels, (*more, (0, 0))[: pixels.ndim], mode="edge")
        return extended
    image = Image.fromarray(pixels)
    if mode == STRETCH:
        return np.asarray(image.resize((width, height), FILTERS[method]))
    scaled = image.resize(scaled_size(image.size, (width, height), mode), FILTERS[method])
    placed = Image.new(image.mode, (width, height))
    left, top = width // 2 - scaled.width // 2, height // 2 - scaled.height // 2
    if mode == FILL:
        _repeat_ends(scaled, placed, left, top)
    placed.paste(scaled, (left, top))
    return np.asarray(placed)


def scaled_size(before: Size, after: Size, mode: str) -> Size:
    """The width and height to which a picture is scaled before it is cropped or filled up.

    Args:
        before: the picture's width and height.
        after: those that it is to have.
        mode: "crop and resize" or "resize and fill".
    """
    width, height = after
    by_height = (width / height > before[0] / before[1]) == (mode == FILL)
    if by_height:
        return max(1, before[0] * height // before[1]), height
    return width, max(1, before[1] * width // before[0])


def _repeat_ends(inner: Image.Image, outer: Image.Image, left: int, top: int) -> None:
    """Fill what will be around `inner`, on two sides, from its outermost pixels."""
    width, height = inner.size
    right, bottom = outer.width - left - width, outer.height - top - height
    for size, box, place in (
        ((width, top), (0, 0, width, 0), (0, 0)),
        ((width, bottom), (0, height, width, height), (0, top + height)),
        ((left, height), (0, 0, 0, height), (0, 0)),
        ((right, height), (width, 0, width, height), (left + width, 0)),
    ):
        if min(size) > 0:
            outer.paste(inner.resize(size, box=box), place)
