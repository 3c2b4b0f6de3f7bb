"""One run of the denoiser: a picture on its way, with its own table, text and guidance."""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from engines.errors import BackendError, InternalError
from engines.session import Array
from runtime.arrays import Float32Array, Latents
from runtime.conditioning import Conditioning, Embeddings, needs_negative
from runtime.guidance import Guidance, rescale
from runtime.known import KnownLatents
from runtime.samplers.table import Table, advance, scratch_for


class NoiseStream(Protocol):
    """Where a run's noise comes from."""

    def draw_into(self, out: Float32Array) -> None:
        """Fill C-contiguous `out` with standard normal noise, continuing the stream."""


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

    Attributes:
        table: the sampler's table.
        row: the row that is next.
        latents: x at that row, [C, h, w] float32, overwritten when the run advances.
        clean: what the last prediction says of the clean latents, likewise; None unless `watch`
            was called.
    """

    def __init__(
        self,
        table: Table,
        latents: Latents,
        conditioning: Conditioning,
        guidance: float | Guidance,
        noise: NoiseStream,
        known: KnownLatents | None = None,
        mask_channels: Latents | None = None,
    ) -> None:
        """Stand at the table's first row.

        Args:
            table: the sampler's table.
            latents: [C, h, w], x at the table's first row before its churn; copied.
            conditioning: the prompts' embeddings at each row of the table.
            guidance: the guidance scale, or one for each row.
            noise: the stream that samplers with noise draw from.
            known: what the run keeps of a picture; None where it keeps nothing.
            mask_channels: [c, h, w], what an inpainting UNet sees beside the latents; None for
                every other UNet.

        Raises:
            InternalError: the embeddings do not fit each other, the table or the guidance.
        """
        self.table = table
        self.row = 0
        if not isinstance(guidance, Guidance):
            guidance = Guidance((guidance,) * table.rows)
        self._scales = tuple(guidance.scales)
        self._rescale = guidance.rescale
        self._noise = noise
        self._known = known
        self._mask_channels = mask_channels
        self._weights = conditioning.weights
        rescaled = bool(self._rescale) and needs_negative(self._weights, 1)
        self._guided = tuple(
            rescaled or needs_negative(self._weights, scale) for scale in self._scales
        )
        self._texts = _texts(conditioning, self._guided, table.rows)
        terms = np.zeros((table.entries + 2, *latents.shape), np.float32)
        self.latents: Latents = terms[0]
        self.latents[...] = latents
        self._prediction: Latents = terms[-2]
        self._noise_term: Latents = terms[-1]
        self._terms = terms.reshape(len(terms), -1)
        self._scratch = scratch_for(table)
        self._part, self._spare = np.empty((2, *latents.shape), np.float32)
        if table.first_noise is not None:
            noise.draw_into(self._part)
            self._part *= np.float32(table.first_noise)
            self.latents += self._part
        self._drawn = False
        self.clean: Latents | None = None

    @property
    def finished(self) -> bool:
        """Whether every row has been applied."""
        return self.row == self.table.rows

    @property
    def guidance(self) -> float:
        """The guidance scale at this row."""
        return self._scales[self.row]

    @property
    def entries(self) -> int:
        """Entries of the batch that one call takes for this run at this row."""
        return len(self.embeddings)

    @property
    def most_entries(self) -> int:
        """The most entries that any row of this run takes."""
        return max(map(len, self._texts))

    @property
    def embeddings(self) -> tuple[Embeddings, ...]:
        """What each of those entries sees at this row; the negative prompt first, if it counts."""
        return self._texts[self.row]

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """The shape of what the UNet sees of a run, [channels, h, w]."""
        channels, height, width = self.latents.shape
        extra = 0 if self._mask_channels is None else len(self._mask_channels)
        return channels + extra, height, width

    def write_mask(self, sample: Array) -> None:
        """Write what the UNet sees at every row, where it sees a mask.

        Args:
            sample: [entries, *sample_shape], in the graph's dtype.
        """
        if self._mask_channels is not None:
            sample[:, len(self.latents) :] = self._mask_channels

    def write_inputs(self, sample: Array, timestep: Array) -> None:
        """Write what the UNet sees at this row into `entries` entries of its batch.

        Args:
            sample: [entries, *sample_shape], in the graph's dtype; `write_mask` has seen it.
            timestep: [entries], float32.
        """
        latents = sample[:, : len(self.latents)]
        scale = np.float32(self.table.input_scale[self.row])
        np.multiply(self.latents, scale, out=latents[0], casting="same_kind")
        latents[1:] = latents[0]
        timestep[:] = self.table.timesteps[self.row]

    @property
    def draws_noise(self) -> bool:
        """Whether there is noise to be drawn for this row."""
        return bool(self.table.draws_noise[self.row]) and not self._drawn

    def draw_noise(self) -> None:
        """Draw this row's noise, unless there is none or it is there already.

        Another thread may do so while the UNet runs.
        """
        if self.draws_noise:
            self._noise.draw_into(self._noise_term)
            self._drawn = True

    def read_prediction(self, predicted: Float32Array) -> None:
        """Take the UNet's output and apply guidance.

        The prediction is u + sum of guidance * weight * (c - u) over the prompts' c, or where u
        has no part in that, the sum of guidance * weight * c.
        Source: equation 11 of Liu et al., https://arxiv.org/abs/2206.01714. Where guidance is
        rescaled, the prompts' own prediction is this one with guidance 1.

        Args:
            predicted: [entries, C, h, w], in the order of `embeddings`.

        Raises:
            NonFinitePredictionError: it is not all numbers; the run can only be given up.
        """
        prediction, part = self._prediction, self._part
        with np.errstate(invalid="ignore", over="ignore"):
            guided, guidance = self._guided[self.row], self.guidance
            base = predicted[0] if guided else None
            prompts = predicted[1:] if guided else predicted
            for i, (prompt, weight) in enumerate(zip(prompts, self._weights, strict=True)):
                out = part if i else prediction
                values = prompt if base is None else np.subtract(prompt, base, out=out)
                np.multiply(values, np.float32(guidance * weight), out=out)
                if i:
                    prediction += part
            if base is not None and self._rescale and guidance:
                np.divide(prediction, np.float32(guidance), out=part)
                part += base
                prediction += base
                rescale(prediction, part, self._rescale, scratch=self._spare)
            elif base is not None:
                prediction += base
            lowest, highest = prediction.min(), prediction.max()
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            raise NonFinitePredictionError(self)

    def watch(self) -> None:
        """Keep `clean` from now on."""
        if self.clean is None:
            self.clean = np.zeros_like(self.latents)

    def advance(self) -> None:
        """Apply the row to the prediction that was read, and go to the next."""
        if self.clean is not None:
            signal, noise = self.table.start[self.row]
            np.multiply(self._prediction, np.float32(-noise), out=self.clean)
            self.clean += self.latents
            self.clean *= np.float32(1 / signal)
        self.draw_noise()
        advance(self.table, self.row, self._terms, self._scratch)
        self.row += 1
        self._drawn = False
        if self._known is not None:
            self._known.restore(self.latents, self.table, self.row)


def _texts(
    conditioning: Conditioning, guided: Sequence[bool], rows: int
) -> tuple[tuple[Embeddings, ...], ...]:
    """The embeddings of each row's entries."""
    prompts, negative = conditioning.prompts, conditioning.negative
    if any(guided) and negative is None:
        raise InternalError("guidance without embeddings of a negative prompt")
    for name, given in (("embeddings", prompts), ("guidance", guided)):
        if len(given) != rows:
            raise InternalError(f"{name} for {len(given)} rows of a table that has {rows}")
    texts = tuple(
        (negative[row], *prompts[row]) if negative is not None and guided[row] else prompts[row]
        for row in range(rows)
    )
    if len(shapes := {part.shape for text in texts for part in text}) != 1:
        raise InternalError(f"embeddings of {sorted(shapes)} do not fit")
    return texts
