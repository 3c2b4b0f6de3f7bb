"""Pictures to latents: the VAE encoder and diffusers' way of sampling from it."""

from collections.abc import Callable

import numpy as np

from engines import layout
from engines.errors import BackendError
from engines.session import Session
from runtime.arrays import Float32Array, Latents, Pixels
from runtime.calls import Calls
from runtime.tiles import run_whole_or_tiled

Draw = Callable[[tuple[int, ...]], Latents]
"""Draws standard normal noise of a shape."""

_LOG_VARIANCES = (-30.0, 20.0)


class PictureEncoder:
    """The VAE encoder, one picture or tile a call."""

    def __init__(self, session: Session, scaling_factor: float, downscale: int) -> None:
        """Encode with the VAE encoder `session` to latents that are multiplied by the factor.

        Args:
            session: the graph.
            scaling_factor: of the VAE.
            downscale: pixels per latent along one side.
        """
        self._session = session
        self._scaling_factor = scaling_factor
        self._downscale = downscale
        (self._sample,) = session.inputs

    def encode(self, sample: Float32Array, draw: Draw, tiling: str) -> Calls[Latents]:
        """Sample the latents [C, h, w] of a picture.

        Source: `DiagonalGaussianDistribution` in diffusers.

        Args:
            sample: [3, H, W] in -1..1.
            draw: gives the noise, called once.
            tiling: one of `runtime.tiles.TILINGS`.

        Raises:
            BackendError: the engine fails, or the model overflows.
        """
        parameters = yield from run_whole_or_tiled(self._run, sample, (self._downscale, 1), tiling)
        if not np.isfinite(parameters).all():
            raise BackendError(
                "The picture's latents came out with values that are no numbers: the VAE encoder "
                f"overflowed its {self._sample.dtype}. Use a float32 bundle."
            )
        mean, log_variance = np.split(parameters, 2)
        deviation = np.exp(np.float32(0.5) * np.clip(log_variance, *_LOG_VARIANCES))
        latents = mean + deviation * draw(mean.shape)
        scaled: Latents = latents * np.float32(self._scaling_factor)
        return scaled

    def _run(self, sample: Float32Array) -> Calls[Float32Array]:
        yield layout.VAE_ENCODER
        feeds = {layout.SAMPLE: sample[None].astype(self._sample.dtype)}
        parameters = self._session.run(feeds)[layout.LATENT_PARAMETERS][0]
        return np.array(parameters, np.float32)


def to_sample(pixels: Pixels) -> Float32Array:
    """Map bytes [H, W, 3] to [3, H, W] from -1 to 1, C-contiguous.

    Source: `VaeImageProcessor.preprocess` in diffusers.
    """
    unit = pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    sample: Float32Array = np.ascontiguousarray(2 * unit - 1)
    return sample
