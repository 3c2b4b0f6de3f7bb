"""Cheap previews: latents to colours by a linear map that was fitted to the VAE at export."""

from collections.abc import Sequence

import numpy as np

from engines.errors import SettingError
from runtime.arrays import Latents, Pixels
from runtime.vae_decoder import to_pixels


def preview(latents: Latents, factors: Sequence[Sequence[float]]) -> Pixels:
    """What latents show, one pixel each.

    Args:
        latents: [C, h, w], clean ones.
        factors: [C + 1, 3], `manifest.latents.preview`: what each channel adds to red, green and
            blue in -1 to 1, and last what is there without any.

    Returns:
        uint8 [h, w, 3].

    Raises:
        SettingError: the bundle has no factors.
    """
    if not factors:
        raise SettingError("The bundle has no factors for previews. Export it again.")
    weights = np.array(factors, np.float32)
    colours = np.tensordot(weights[:-1], latents, (0, 0)) + weights[-1][:, None, None]
    return to_pixels(colours)
