"""Masks: bytes [H, W], 255 where a picture is painted anew and 0 where it stays."""

import numpy as np

from runtime.arrays import Float32Array, Pixels

Box = tuple[int, int, int, int]
"""Left, top, right, bottom; the last two lie outside."""

HALF = 128
_REACH = 2.5
"""How many standard deviations of a blur are computed."""


def harden(mask: Pixels) -> Pixels:
    """All or nothing for every pixel; from 128 on it is all."""
    return np.where(mask >= HALF, np.uint8(255), np.uint8(0))


def blur(mask: Pixels, sigma: float) -> Pixels:
    """A Gaussian blur, reaching int(2.5 sigma + 1/2) pixels, as the webui's mask blur does.

    Args:
        mask: [H, W].
        sigma: the standard deviation in pixels; 0 leaves the mask as it is.
    """
    reach = int(_REACH * sigma + 0.5)
    if not reach:
        return mask
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    blurred = mask.astype(np.float32)
    for _ in range(2):
        blurred = _convolve_rows(blurred, weights).T
    return blurred.round().astype(np.uint8)


def region_around(mask: Pixels, width: int, height: int, padding: int) -> Box:
    """The part of a picture to work on: what is masked, with padding, in the result's proportions.

    Args:
        mask: [H, W], not empty.
        width: of the picture that is made of the region.
        height: likewise.
        padding: pixels around what is masked.
    """
    left, right = _extent(mask.max(axis=0), padding)
    top, bottom = _extent(mask.max(axis=1), padding)
    if (right - left) / (bottom - top) > width / height:
        wanted = int((right - left) / (width / height) - (bottom - top))
        top, bottom = _grow(top, bottom, wanted, mask.shape[0])
    else:
        wanted = int((bottom - top) * (width / height) - (right - left))
        left, right = _grow(left, right, wanted, mask.shape[1])
    return left, top, right, bottom


def latent_mask(mask: Pixels, downscale: int, *, soft: bool) -> Float32Array:
    """The mask at the latents' size, [h, w], 1 where they are painted.

    Args:
        mask: [H, W], of sides that are multiples of `downscale`.
        downscale: pixels per latent along one side.
        soft: whether a latent gets the mean of its pixels; else it is all or nothing by its first
            one, as in diffusers.
    """
    if not soft:
        return (mask[::downscale, ::downscale] >= HALF).astype(np.float32)
    rows, columns = (side // downscale for side in mask.shape)
    cells = mask.reshape(rows, downscale, columns, downscale)
    means: Float32Array = (cells.mean(axis=(1, 3)) / 255).astype(np.float32)
    return means


def paste(ground: Pixels, painted: Pixels, mask: Pixels) -> Pixels:
    """Lay a painted picture over the one that it was made from.

    From half of the mask on, the painted one covers the other: there the latents were painted.
    Where the mask is 0, every byte stays.

    Args:
        ground: [H, W, 3].
        painted: likewise.
        mask: [H, W].
    """
    weight = np.minimum(2 * mask.astype(np.float32) / 255, 1)[..., None]
    laid = ground + (painted.astype(np.float32) - ground) * weight
    return laid.round().astype(np.uint8)


def _convolve_rows(values: Float32Array, weights: Float32Array) -> Float32Array:
    """Over the rows, mirrored at the ends without repeating the outermost one."""
    reach, length = len(weights) // 2, len(values)
    period = max(2 * (length - 1), 1)
    places = np.abs(np.arange(-reach, length + reach)) % period
    padded = values[np.minimum(places, period - places) % length]
    total = np.zeros(values.shape, np.float32)
    for i, weight in enumerate(weights):
        total += weight * padded[i : i + length]
    return total


def _extent(used: Pixels, padding: int) -> tuple[int, int]:
    first, last = np.flatnonzero(used)[[0, -1]].tolist()
    return max(first - padding, 0), min(last + 1 + padding, len(used))


def _grow(begin: int, end: int, by: int, length: int) -> tuple[int, int]:
    """Grow to both sides, and further to one where the picture ends on the other."""
    begin, end = begin - by // 2, end + by - by // 2
    beyond = max(end - length, 0)
    begin, end = begin - beyond, end - beyond
    return max(begin, 0), min(end - min(begin, 0), length)
