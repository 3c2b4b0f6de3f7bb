"""Latents to pictures: the VAE decoder and diffusers' way of rounding to bytes."""

import numpy as np
from numpy.typing import NDArray

from engines import layout
from engines.errors import BackendError
from engines.session import Session

Pixels = NDArray[np.uint8]


class PictureDecoder:
    """The VAE decoder, one picture a call, for its memory grows with the picture."""

    def __init__(self, session: Session, scaling_factor: float) -> None:
        """Decode with the VAE decoder `session` latents that were multiplied by the factor."""
        self._session = session
        self._scaling_factor = scaling_factor
        (self._latents,) = session.inputs

    def decode(self, latents: NDArray[np.float32]) -> Pixels:
        """Turn the latents of one picture, [C, h, w], into its pixels, [H, W, 3].

        Raises:
            BackendError: the picture has values that are no numbers.
        """
        scaled = (latents[None] / np.float32(self._scaling_factor)).astype(self._latents.dtype)
        sample = self._session.run({layout.LATENT_SAMPLE: scaled})[layout.SAMPLE][0]
        if not np.isfinite(sample).all():
            raise BackendError(
                "The picture came out with values that are no numbers: the model overflowed its "
                f"{self._latents.dtype}. Use less emphasis or guidance, or a float32 bundle."
            )
        return to_pixels(sample.astype(np.float32))


def to_pixels(sample: NDArray[np.float32]) -> Pixels:
    """Map [3, H, W] from [-1, 1] to bytes [H, W, 3], clipped and rounded half to even.

    Source: `VaeImageProcessor.postprocess` in diffusers.
    """
    unit = np.clip(sample / 2 + np.float32(0.5), 0, 1)
    return (unit.transpose(1, 2, 0) * 255).round().astype(np.uint8)
