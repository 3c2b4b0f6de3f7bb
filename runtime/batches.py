"""Which runs share one call of the UNet, and the buffers that feed it."""

from collections.abc import Iterable

import numpy as np

from engines import layout
from engines.session import Array
from runtime.slot import Slot


class Batch:
    """The runs of one call, and the buffers that feed it; rebuilt when the runs change."""

    def __init__(self, slots: list[Slot], dtype: np.dtype[np.generic]) -> None:
        """Share one call between `slots`, of one latent size and text length, in `dtype`."""
        entries = sum(slot.entries for slot in slots)
        self.slots = tuple(slots)
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
        for slot in self.slots:
            slot.advance()

    def _places(self) -> Iterable[tuple[Slot, slice]]:
        begin = 0
        for slot in self.slots:
            yield slot, slice(begin, begin + slot.entries)
            begin += slot.entries


def form_batches(slots: list[Slot], max_batch: int) -> list[list[Slot]]:
    """Runs of one latent size and text length go together, up to `max_batch` entries."""
    groups: dict[tuple[int, ...], list[list[Slot]]] = {}
    for slot in slots:
        key = (*slot.latents.shape, *slot.embeddings[0].shape)
        batches = groups.setdefault(key, [[]])
        if sum(other.entries for other in batches[-1]) + slot.entries > max_batch:
            batches.append([])
        batches[-1].append(slot)
    return [batch for batches in groups.values() for batch in batches]
