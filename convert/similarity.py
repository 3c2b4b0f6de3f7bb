"""How alike two pictures are."""

import math
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Picture = NDArray[np.floating]

EQUAL_DB: Final = 100.0
"""What `psnr` says of pictures that are equal or as good as equal."""

_RADIUS: Final = 5
_SIGMA: Final = 1.5
_C1: Final = 0.01**2
_C2: Final = 0.03**2


def psnr(first: Picture, second: Picture) -> float:
    """The peak signal-to-noise ratio in decibels, from 0 to `EQUAL_DB`.

    Pictures with values that are no numbers are as unlike as can be.

    Args:
        first: [H, W, C] in 0..1.
        second: the same shape.
    """
    error = float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2))
    if not math.isfinite(error):
        return 0.0
    return min(EQUAL_DB, -10 * math.log10(error)) if error else EQUAL_DB


def ssim(first: Picture, second: Picture) -> float:
    """The mean structural similarity over all channels and windows, from -1 to 1 for equal ones.

    Wang, Bovik, Sheikh, Simoncelli: Image Quality Assessment (2004), equations 13 to 17: Gaussian
    windows of 11x11 with a sigma of 1.5, inside the picture only, K1 = 0.01, K2 = 0.03.

    Args:
        first: [H, W, C] in 0..1, 11 pixels high and wide at least.
        second: the same shape.
    """
    x, y = first.astype(np.float64), second.astype(np.float64)
    mean_x, mean_y = _blur(x), _blur(y)
    variances = _blur(x * x) - mean_x**2 + _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    similarity = ((2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)) / (
        (mean_x**2 + mean_y**2 + _C1) * (variances + _C2)
    )
    mean = float(similarity.mean())
    return mean if math.isfinite(mean) else -1.0


def _blur(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian weighting of every window that lies inside, [H - 10, W - 10, C]."""
    offsets = np.arange(-_RADIUS, _RADIUS + 1)
    weights = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    weights /= weights.sum()
    for axis in (0, 1):
        values = sliding_window_view(values, len(weights), axis=axis) @ weights
    return values
