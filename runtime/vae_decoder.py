"""Latents to pictures: the VAE decoder and diffusers' way of rounding to bytes."""

import numpy as np

from engines import layout
from engines.errors import BackendError
from engines.session import Preparation, Session
from runtime.arrays import Float32Array, Latents, Pixels
from runtime.calls import Calls
from runtime.tiles import AUTO, run_whole_or_tiled, size_of_call


class PictureDecoder:
    """The VAE decoder, one picture or tile a call, for its memory grows with the picture."""

    def __init__(self, session: Session, scaling_factor: float, downscale: int = 8) -> None:
        """Decode with the VAE decoder `session` latents that were multiplied by the factor.

        Args:
            session: the graph.
            scaling_factor: of the VAE.
            downscale: pixels per latent along one side.
        """
        self._downscale = downscale
        self._session = session
        self._scaling_factor = scaling_factor
        (self._latents,) = session.inputs

    def preparation(self, height: int, width: int, tiling: str = AUTO) -> Preparation | None:
        """What decoding latents of this size would have to do first; None if there is nothing.

        Args:
            height: of the latents.
            width: of the latents.
            tiling: one of `runtime.tiles.TILINGS`.
        """
        downscale = self._downscale
        wide, tall = size_of_call(tiling, width * downscale, height * downscale, downscale)
        return self._session.preparation({"height": tall // downscale, "width": wide // downscale})

    def decode(self, latents: Latents, tiling: str = AUTO) -> Calls[Pixels]:
        """Turn the latents of one picture, [C, h, w], into its pixels, [H, W, 3].

        Args:
            latents: multiplied by the scaling factor.
            tiling: one of `runtime.tiles.TILINGS`.

        Raises:
            BackendError: the engine fails, or the model overflows.
        """
        scaled = latents / np.float32(self._scaling_factor)
        sample = yield from run_whole_or_tiled(self._run, scaled, (1, self._downscale), tiling)
        if not np.isfinite(sample).all():
            raise BackendError(
                "The picture came out with values that are no numbers: the model overflowed its "
                f"{self._latents.dtype}. Use less emphasis or guidance, or a float32 bundle."
            )
        return to_pixels(sample)

    def _run(self, latents: Float32Array) -> Calls[Float32Array]:
        yield layout.VAE_DECODER
        feeds = {layout.LATENT_SAMPLE: latents[None].astype(self._latents.dtype)}
        return np.array(self._session.run(feeds)[layout.SAMPLE][0], np.float32)


def to_pixels(sample: Float32Array) -> Pixels:
    """Map [3, H, W] from [-1, 1] to bytes [H, W, 3], clipped and rounded half to even.

    Source: `VaeImageProcessor.postprocess` in diffusers.
    """
    unit = np.clip(sample / 2 + np.float32(0.5), 0, 1)
    return (unit.transpose(1, 2, 0) * 255).round().astype(np.uint8)
