"""What a run keeps of a picture that was given: blended diffusion over latents.

Source: Avrahami, Fried and Lischinski, "Blended latent diffusion" (arXiv:2206.02779), as diffusers'
StableDiffusionInpaintPipeline does it with UNets of four channels.
"""

import numpy as np

from runtime.arrays import Float32Array, Latents
from runtime.samplers.table import Table


class KnownLatents:
    """Latents that are known outside a mask, with as much noise as belongs to each row."""

    def __init__(self, latents: Latents, noise: Latents, mask: Float32Array) -> None:
        """Keep `latents` where `mask` is 0.

        Args:
            latents: [C, h, w], without noise.
            noise: [C, h, w], the noise that they have at every row.
            mask: [h, w], 0 to 1, how much of the run's own latents there is.
        """
        self._mask = mask.astype(np.float32)
        self._latents = (1 - self._mask) * latents
        self._noise = (1 - self._mask) * noise
        self._term = np.empty_like(self._latents)

    def restore(self, latents: Latents, table: Table, row: int) -> None:
        """Put what is known into a run's latents, in place.

        Args:
            latents: [C, h, w], x where the run stands.
            table: the run's table.
            row: the row where the run stands; behind the last one there is no noise left.
        """
        signal, noise = table.start[row] if row < table.rows else (1.0, 0.0)
        latents *= self._mask
        for part, factor in ((self._latents, signal), (self._noise, noise)):
            np.multiply(part, np.float32(factor), out=self._term)
            latents += self._term
