"""The denoising loop: one call of the UNet advances every run by one row of its table.

Runs join and leave between rows, whatever their samplers, steps and guidance: each has its own
row, timestep and prompt inside one batch. What their rows add of noise is drawn while the UNet
runs, on a thread of its own.
"""

from contextlib import AbstractContextManager, nullcontext

import numpy as np

from engines import layout
from engines.errors import SettingError
from engines.session import Array, Preparation, Session
from runtime.batches import Batch, form_batches
from runtime.side_thread import SideThread
from runtime.slot import Slot


def check_max_batch(max_batch: int) -> None:
    """Refuse to feed so few entries in one call that no run with guidance fits.

    Raises:
        SettingError: it is below 2.
    """
    if max_batch < 2:
        raise SettingError(
            f"A batch of {max_batch} cannot hold a picture with guidance; choose at least 2."
        )


class Denoiser:
    """The UNet's session, which the caller closes, and the runs that share it.

    Attributes:
        max_batch: entries of one call at most.
        calling: the runs of the call that is being made; after an error, of that which failed.
    """

    def __init__(self, session: Session, max_batch: int) -> None:
        """Run the UNet in `session`, feeding at most `max_batch` entries in one call.

        Raises:
            SettingError: no run with guidance fits into that.
        """
        self._session = session
        self._dtype = next(
            np.dtype(tensor.dtype) for tensor in session.inputs if tensor.name == layout.SAMPLE
        )
        self._slots: list[Slot] = []
        self._batches: list[Batch] = []
        self._stale = False
        self._bound: Batch | None = None
        self._drawing = SideThread("noise")
        self.calling: tuple[Slot, ...] = ()
        self.resize(max_batch)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The runs in progress."""
        return tuple(self._slots)

    def preparation(self, height: int, width: int, tokens: int) -> Preparation | None:
        """What the first row would have to do before its call; None if there is nothing.

        Args:
            height: of the latents.
            width: of the latents.
            tokens: of each text.
        """
        return self._session.preparation({"height": height, "width": width, "tokens": tokens})

    def resize(self, max_batch: int, area: float | None = None) -> None:
        """Feed at most `max_batch` entries in one call from the next row on.

        Args:
            max_batch: of latents up to `area`; of larger ones as many fewer.
            area: height times width; None where their size does not matter.

        Raises:
            SettingError: no run with guidance fits into that.
        """
        check_max_batch(max_batch)
        self.max_batch = max_batch
        self._area = area
        self._stale = True

    def add(self, slot: Slot) -> None:
        """Let a run join before the next row."""
        self._slots.append(slot)
        self._stale = True

    def remove(self, slot: Slot) -> None:
        """Let a run leave before the next row; its latents stay as they are."""
        self._slots.remove(slot)
        self._stale = True

    def clear(self) -> None:
        """Let every run leave before the next row, whatever has become of the last one."""
        self._slots.clear()
        self._stale = True

    def close(self) -> None:
        """End the thread that draws noise; the runs can go no further."""
        self._drawing.close()

    def advance(self) -> list[Slot]:
        """Advance every run by one row, with as few calls of the UNet as possible.

        Returns:
            The runs that are finished; they have left.

        Raises:
            NonFinitePredictionError: for one run the UNet predicted no numbers. Runs of that
                call have not advanced; without the failed one, the rest can go on.
            BackendError: the engine failed; likewise for the runs of that call, `calling`.
        """
        self.calling = ()
        if self._stale or not all(batch.fits for batch in self._batches):
            going = [slot for slot in self._slots if not slot.finished]
            self._batches = [
                Batch(slots, self._dtype)
                for slots in form_batches(going, self.max_batch, self._area)
            ]
        self._stale = True  # until every call has succeeded: some runs may be finished, some not
        for batch in self._batches:
            self.calling = batch.slots
            changed = batch.write_inputs()
            with self._drawing_noise(batch):
                predicted = self._predict(batch, changed=changed)
            batch.advance(predicted)
        self._stale = False
        finished = [slot for slot in self._slots if slot.finished]
        for slot in finished:
            self.remove(slot)
        return finished

    def _drawing_noise(self, batch: Batch) -> AbstractContextManager[None]:
        """Draw the runs' noise beside what is done meanwhile, and have it there at the end."""
        return self._drawing.doing(batch.draw_noise) if batch.draws_noise else nullcontext()

    def _predict(self, batch: Batch, *, changed: bool) -> Array:
        """One call of the UNet; several where a run alone has more entries than a call takes."""
        if batch.entries <= self.max_batch:
            feeds = batch.feeds(embeddings=changed or batch is not self._bound)
            self._bound = batch
            return self._session.run(feeds)[layout.OUT_SAMPLE]
        self._bound = None
        for begin in range(0, batch.entries, self.max_batch):
            end = begin + self.max_batch
            feeds = batch.feeds(embeddings=True, begin=begin, end=end)
            batch.gathered[begin:end] = self._session.run(feeds)[layout.OUT_SAMPLE]
        return batch.gathered
