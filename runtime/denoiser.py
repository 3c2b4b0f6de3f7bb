"""The denoising loop: one call of the UNet advances every run by one row of its table.

Runs join and leave between rows, whatever their samplers, steps and guidance: each has its own
row, timestep and prompt inside one batch.
"""

import math
from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engines import layout
from engines.errors import BackendError, InternalError, SettingError
from engines.session import Array, Session
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


class Denoiser:
    """The UNet's session, which the caller closes, and the runs that share it."""

    def __init__(self, session: Session, max_batch: int) -> None:
        """Run the UNet in `session`, feeding at most `max_batch` entries in one call.

        Raises:
            SettingError: no run with guidance fits into that.
        """
        if max_batch < 2:
            raise SettingError(
                f"A batch of {max_batch} cannot hold a picture with guidance; choose at least 2."
            )
        self.max_batch = max_batch
        self._session = session
        self._dtype = next(
            np.dtype(tensor.dtype) for tensor in session.inputs if tensor.name == layout.SAMPLE
        )
        self._slots: list[Slot] = []
        self._batches: list[_Batch] = []
        self._stale = False
        self._bound: _Batch | None = None

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The runs in progress."""
        return tuple(self._slots)

    def add(self, slot: Slot) -> None:
        """Let a run join before the next row."""
        self._slots.append(slot)
        self._stale = True

    def remove(self, slot: Slot) -> None:
        """Let a run leave before the next row; its latents stay as they are."""
        self._slots.remove(slot)
        self._stale = True

    def advance(self) -> list[Slot]:
        """Advance every run by one row, with as few calls of the UNet as possible.

        Returns:
            The runs that are finished; they have left.

        Raises:
            NonFinitePredictionError: for one run the UNet predicted no numbers. Runs of that
                call have not advanced; without the failed one, the rest can go on.
        """
        if self._stale:
            self._batches = [
                _Batch(slots, self._dtype) for slots in _batches(self._slots, self.max_batch)
            ]
            self._stale = False
        for batch in self._batches:
            feeds = batch.feeds(embeddings=batch is not self._bound)
            self._bound = batch
            batch.advance(self._session.run(feeds)[layout.OUT_SAMPLE])
        finished = [slot for slot in self._slots if slot.finished]
        for slot in finished:
            self.remove(slot)
        return finished


class _Batch:
    """The runs of one call, and the buffers that feed it; rebuilt when the runs change."""

    def __init__(self, slots: list[Slot], dtype: np.dtype[np.generic]) -> None:
        entries = sum(slot.entries for slot in slots)
        self._slots = slots
        self._sample = np.empty((entries, *slots[0].latents.shape), dtype)
        self._timestep = np.empty(entries, np.float32)
        self._embeddings = np.stack([part for slot in slots for part in slot.embeddings])
        self._embeddings = self._embeddings.astype(dtype, copy=False)

    def feeds(self, *, embeddings: bool) -> dict[str, Array]:
        """What to feed for the next row, with the embeddings or without."""
        for slot, place in self._places():
            slot.write_inputs(self._sample[place], self._timestep[place])
        feeds: dict[str, Array] = {layout.SAMPLE: self._sample, layout.TIMESTEP: self._timestep}
        if embeddings:
            feeds[layout.ENCODER_HIDDEN_STATES] = self._embeddings
        return feeds

    def advance(self, predicted: Array) -> None:
        """Apply the call's output to every run, or to none."""
        for slot, place in self._places():
            slot.read_prediction(predicted[place])
        for slot in self._slots:
            slot.advance()

    def _places(self) -> Iterable[tuple[Slot, slice]]:
        begin = 0
        for slot in self._slots:
            yield slot, slice(begin, begin + slot.entries)
            begin += slot.entries


def _batches(slots: list[Slot], max_batch: int) -> list[list[Slot]]:
    """Runs of one latent size and text length go together, up to `max_batch` entries."""
    groups: dict[tuple[int, ...], list[list[Slot]]] = {}
    for slot in slots:
        key = (*slot.latents.shape, *slot.embeddings[0].shape)
        batches = groups.setdefault(key, [[]])
        if sum(other.entries for other in batches[-1]) + slot.entries > max_batch:
            batches.append([])
        batches[-1].append(slot)
    return [batch for batches in groups.values() for batch in batches]
