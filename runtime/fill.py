"""Colours for what is masked, from what is around it: the start of the masked content "fill"."""

import numpy as np
from PIL import Image

from runtime.arrays import Float32Array, Pixels

_SPREAD = 4
"""Of four pixels that become one, a single known one makes it known."""


def fill_masked(pixels: Pixels, mask: Pixels) -> Pixels:
    """Paint over what is masked with colours that run in smoothly from its surroundings.

    This is pull-push interpolation: Gortler, Grzeszczuk, Szeliski and Cohen, "The Lumigraph",
    SIGGRAPH 1996, section 3.4. What is wholly masked keeps its colours.

    Args:
        pixels: [H, W, 3].
        mask: [H, W]; pixels count as known to the degree that it is dark.
    """
    known = 1 - mask.astype(np.float32) / 255
    if not known.any():
        return pixels
    filled = _complete(pixels.astype(np.float32), known.astype(np.float32))
    return filled.round().clip(0, 255).astype(np.uint8)


def _complete(colours: Float32Array, known: Float32Array) -> Float32Array:
    """Fill [H, W, 3] where `known` [H, W] is below 1, from a picture of half the size."""
    height, width = known.shape
    if known.min() == 1 or height == width == 1:
        return colours
    size = (-(-width // 2), -(-height // 2))
    coarse_known = _scaled(known, size, Image.Resampling.BOX)
    coarse = np.stack(
        [
            _scaled(channel * known, size, Image.Resampling.BOX)
            for channel in colours.transpose(2, 0, 1)
        ],
        axis=-1,
    )
    coarse /= np.maximum(coarse_known, np.finfo(np.float32).tiny)[..., None]
    coarse = _complete(coarse, np.minimum(_SPREAD * coarse_known, 1))
    behind = np.stack(
        [
            _scaled(channel, (width, height), Image.Resampling.BILINEAR)
            for channel in coarse.transpose(2, 0, 1)
        ],
        axis=-1,
    )
    weight = known[..., None]
    filled: Float32Array = weight * colours + (1 - weight) * behind
    return filled


def _scaled(values: Float32Array, size: tuple[int, int], method: Image.Resampling) -> Float32Array:
    return np.asarray(Image.fromarray(np.ascontiguousarray(values)).resize(size, method))
