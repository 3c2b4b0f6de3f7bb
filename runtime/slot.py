"""One run of the denoiser: a picture on its way, with its own table, text and guidance."""

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engines.errors import BackendError, InternalError
from engines.session import Array
from runtime.samplers.table import Table, advance, scratch_for

Latents = NDArray[np.float32]
Embeddings = NDArray[np.float32]


class NoiseStream(Protocol):
    """Where a run's noise comes from."""

    def draw(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Draw standard normal float32 noise of `shape`, continuing the stream."""


class NonFinitePredictionError(BackendError):
    """The UNet predicted infinity or no number for one run; `slot` is that run."""

    def __init__(self, slot: "Slot") -> None:
        super().__init__(
            f"The UNet's prediction was not finite at row {slot.row + 1} of {slot.table.rows} "
            f"(timestep {slot.table.timesteps[slot.row]:g}, guidance {slot.guidance:g}). "
            "Lower the guidance, or use a bundle or backend of higher precision."
        )
        self.slot = slot


class Slot:
    """One run: a picture that is being denoised.

    `latents` is x at the current row, [C, h, w] float32, overwritten when the run advances.
    """

    def __init__(
        self,
        table: Table,
        latents: Latents,
        conditioning: Embeddings,
        unconditional: Embeddings | None,
        guidance: float,
        noise: NoiseStream,
    ) -> None:
        """Stand at the table's first row.

        Args:
            table: the sampler's table.
            latents: [C, h, w], x at the table's first row; copied.
            conditioning: [tokens, width], the prompt's embeddings.
            unconditional: [tokens, width], the negative prompt's, as long as the prompt's; None
                exactly where guidance is 1, which needs no second half of the batch.
            guidance: the guidance scale.
            noise: the stream that samplers with noise draw from.

        Raises:
            InternalError: the embeddings do not fit each other or the guidance.
        """
        if (unconditional is None) != (guidance == 1):
            raise InternalError("guidance 1 takes no negative embeddings, every other does")
        if unconditional is not None and unconditional.shape != conditioning.shape:
            raise InternalError(
                f"embeddings of {conditioning.shape} and {unconditional.shape} do not fit"
            )
        self.table = table
        self.row = 0
        self.guidance = guidance
        self.noise = noise
        self.embeddings = (
            (conditioning,) if unconditional is None else (unconditional, conditioning)
        )
        terms = np.zeros((table.entries + 2, *latents.shape), np.float32)
        self.latents: Latents = terms[0]
        self.latents[...] = latents
        self._prediction: Latents = terms[-2]
        self._drawn: Latents = terms[-1]
        self._terms = terms.reshape(len(terms), -1)
        self._scratch = scratch_for(table)

    @property
    def finished(self) -> bool:
        """Whether every row has been applied."""
        return self.row == self.table.rows

    @property
    def entries(self) -> int:
        """Entries of the batch that one call takes for this run."""
        return len(self.embeddings)

    def write_inputs(self, sample: Array, timestep: Array) -> None:
        """Write what the UNet sees at this row into `entries` entries of its batch.

        Args:
            sample: [entries, C, h, w], in the graph's dtype.
            timestep: [entries], float32.
        """
        np.multiply(
            self.latents,
            np.float32(self.table.input_scale[self.row]),
            out=sample[0],
            casting="same_kind",
        )
        sample[1:] = sample[0]
        timestep[:] = self.table.timesteps[self.row]

    def read_prediction(self, predicted: Array) -> None:
        """Take the UNet's output and apply guidance, u + scale * (c - u), in float32.

        Args:
            predicted: [entries, C, h, w]; the unconditional half first.

        Raises:
            NonFinitePredictionError: it is not all numbers; the run can only be given up.
        """
        prediction = self._prediction
        with np.errstate(invalid="ignore", over="ignore"):
            if self.entries == 1:
                prediction[...] = predicted[0]
            else:
                np.subtract(predicted[1], predicted[0], out=prediction, dtype=np.float32)
                prediction *= np.float32(self.guidance)
                prediction += predicted[0]
            lowest, highest = prediction.min(), prediction.max()
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            raise NonFinitePredictionError(self)

    def advance(self) -> None:
        """Apply the row to the prediction that was read, and go to the next."""
        if self.table.draws_noise[self.row]:
            self._drawn[...] = self.noise.draw(self.latents.shape)
        advance(self.table, self.row, self._terms, self._scratch)
        self.row += 1
