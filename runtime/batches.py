"""Which runs share one call of the UNet, and the buffers that feed it."""

from collections.abc import Iterable
from functools import cached_property

import numpy as np

from engines import layout
from engines.session import Array
from runtime.arrays import Float32Array
from runtime.conditioning import Embeddings
from runtime.half import widen
from runtime.slot import Slot

Feeds = dict[str, Array]


class Batch:
    """The runs of one call, and the buffers that feed it; rebuilt when the runs change."""

    def __init__(self, slots: list[Slot], dtype: np.dtype[np.generic]) -> None:
        """Share one call between `slots`, of one latent size and text length, in `dtype`."""
        self._entries = [slot.entries for slot in slots]
        self.entries = sum(self._entries)
        text = slots[0].embeddings[0].shape
        self.slots = tuple(slots)
        self._sample = np.empty((self.entries, *slots[0].sample_shape), dtype)
        self._timestep = np.empty(self.entries, np.float32)
        self._embeddings = np.empty((self.entries, *text), dtype)
        self._written: list[Embeddings | None] = [None] * self.entries
        for slot, place in self._places():
            slot.write_mask(self._sample[place])

    @property
    def fits(self) -> bool:
        """Whether every run takes as many entries at its row as when the batch was made."""
        return all(
            slot.entries == entries for slot, entries in zip(self.slots, self._entries, strict=True)
        )

    def write_inputs(self) -> bool:
        """Write what the UNet sees at the next row; return whether its texts changed."""
        changed = False
        for slot, place in self._places():
            slot.write_inputs(self._sample[place], self._timestep[place])
            for i, text in enumerate(slot.embeddings, place.start):
                if self._written[i] is not text:
                    self._embeddings[i] = text
                    self._written[i] = text
                    changed = True
        return changed

    @cached_property
    def gathered(self) -> Array:
        """Where the outputs of several calls come together: [entries, C, h, w]."""
        return np.empty((self.entries, *self.slots[0].latents.shape), self._sample.dtype)

    @cached_property
    def _widened(self) -> Float32Array:
        """Room for the prediction of any one run: [entries, C, h, w]."""
        return np.empty((max(self._entries), *self.slots[0].latents.shape), np.float32)

    @property
    def draws_noise(self) -> bool:
        """Whether there is noise to be drawn for any run's row."""
        return any(slot.draws_noise for slot in self.slots)

    def draw_noise(self) -> None:
        """Draw the noise of every run's row, where there is any."""
        for slot in self.slots:
            slot.draw_noise()

    def feeds(self, *, embeddings: bool, begin: int = 0, end: int | None = None) -> Feeds:
        """What to feed for the entries from `begin` to `end`, with the embeddings or without."""
        feeds: Feeds = {
            layout.SAMPLE: self._sample[begin:end],
            layout.TIMESTEP: self._timestep[begin:end],
        }
        if embeddings:
            feeds[layout.ENCODER_HIDDEN_STATES] = self._embeddings[begin:end]
        return feeds

    def advance(self, predicted: Array) -> None:
        """Apply the call's output to every run, or to none."""
        for slot, place in self._places():
            slot.read_prediction(self._as_float32(predicted[place]))
        for slot in self.slots:
            slot.advance()

    def _as_float32(self, predicted: Array) -> Float32Array:
        """A run's prediction itself if it is float32; of float16 a copy, until the next one."""
        if predicted.dtype == np.float32:
            return predicted
        widened = self._widened[: len(predicted)]
        widen(predicted, out=widened)
        return widened

    def _places(self) -> Iterable[tuple[Slot, slice]]:
        begin = 0
        for slot, entries in zip(self.slots, self._entries, strict=True):
            yield slot, slice(begin, begin + entries)
            begin += entries


def places_of(slot: Slot, area: float | None) -> float:
    """The places of a call that a run takes: one an entry, of latents above `area` more."""
    _, height, width = slot.latents.shape
    return slot.entries * (1.0 if area is None else max(1.0, height * width / area))


def form_batches(slots: list[Slot], max_batch: int, area: float | None = None) -> list[list[Slot]]:
    """Runs of one latent size and text length go together, as many as there are places for.

    A run that takes more than all is alone.

    Args:
        slots: the runs.
        max_batch: the places of one call.
        area: height times width of the largest latents of which an entry takes one place; an entry
            of larger ones takes as many as it is larger. None where all take one.
    """
    groups: dict[tuple[int, ...], list[list[Slot]]] = {}
    for slot in slots:
        key = (*slot.sample_shape, *slot.embeddings[0].shape)
        batches = groups.setdefault(key, [[]])
        taken = sum(places_of(other, area) for other in batches[-1])
        if taken and taken + places_of(slot, area) > max_batch:
            batches.append([])
        batches[-1].append(slot)
    return [batch for batches in groups.values() for batch in batches]
