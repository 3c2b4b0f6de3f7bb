"""Latents in another size, as torch.nn.functional.interpolate resizes them."""

import math
from collections.abc import Callable

import numpy as np

from runtime.arrays import Float64Array, Latents

_CUBIC = -0.75
"""The free parameter of Keys' cubic convolution, as torch and OpenCV choose it."""


def resize_latents(latents: Latents, height: int, width: int, method: str) -> Latents:
    """Resize [C, h, w] to [C, height, width], corners not aligned and without a filter.

    Args:
        latents: [C, h, w].
        height: in latents.
        width: in latents.
        method: one of `METHODS`.
    """
    weights = METHODS[method]
    rows, columns = weights(latents.shape[1], height), weights(latents.shape[2], width)
    resized: Latents = (rows @ latents.astype(np.float64) @ columns.T).astype(np.float32)
    return resized


def _nearest(before: int, after: int) -> Float64Array:
    """In float32, as torch has it: at some sizes a place falls just below a whole number."""
    places = np.arange(after, dtype=np.float32) * (np.float32(before) / np.float32(after))
    weights = np.zeros((after, before))
    weights[np.arange(after), np.minimum(places.astype(int), before - 1)] = 1
    return weights


def _bilinear(before: int, after: int) -> Float64Array:
    return _spread(before, after, lambda offset: np.array([1 - offset, offset]), edge=True)


def _bicubic(before: int, after: int) -> Float64Array:
    """Keys, "Cubic convolution interpolation for digital image processing", 1981, equation 4."""

    def taps(offset: float) -> Float64Array:
        distance = np.abs(np.arange(-1, 3) - offset)
        near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1
        far = ((distance - 5) * distance + 8) * distance * _CUBIC - 4 * _CUBIC
        weights: Float64Array = np.where(distance <= 1, near, far)
        return weights

    return _spread(before, after, taps, edge=False)


def _spread(
    before: int, after: int, taps: Callable[[float], Float64Array], *, edge: bool
) -> Float64Array:
    """One row of weights for each place after; taps beyond the ends count for the ends.

    `edge` moves places before the first centre onto it.
    """
    weights = np.zeros((after, before))
    for row in range(after):
        place = (row + 0.5) * before / after - 0.5
        if edge:
            place = max(place, 0.0)
        first = math.floor(place)
        values = taps(place - first)
        begin = first - (len(values) // 2 - 1)
        for i, value in enumerate(values.tolist()):
            weights[row, min(max(begin + i, 0), before - 1)] += value
    return weights


METHODS = {"nearest": _nearest, "bilinear": _bilinear, "bicubic": _bicubic}
"""By name: the matrix that takes one side's values to those of another length."""
