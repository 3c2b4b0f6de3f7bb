"""What a caller is told while pictures are made, and how it stops that."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from engines.errors import SettingError
from runtime.arrays import Pixels
from runtime.preview import preview
from runtime.request import Settings
from runtime.slot import Slot


class Cancelled(Exception):  # noqa: N818 - it is no error, but what a caller wants
    """Raised by an `on_step` to stop: the pictures that are not finished are given up."""


@dataclass(frozen=True)
class Step:
    """Where a run of `Pipeline.generate` stands. It holds for the time of the call only.

    Attributes:
        done: rows that are done, over all pictures.
        total: rows that there are.
    """

    done: int
    total: int
    _slots: Mapping[Slot, Settings]
    _factors: Sequence[Sequence[float]]

    @property
    def settings(self) -> tuple[Settings, ...]:
        """Those of the pictures that the step advanced."""
        return tuple(self._slots.values())

    def preview(self, index: int = 0) -> Pixels:
        """What one of these pictures will look like as far as the model can tell by now.

        Args:
            index: its place in `settings`.

        Returns:
            uint8 [h, w, 3], one pixel for each latent.

        Raises:
            SettingError: `generate` was not asked for previews, the bundle has none, or no
                picture has advanced yet, as before the first row.
        """
        if not self._slots:
            raise SettingError(
                "There is no preview before the first row: ask when `done` is not 0."
            )
        clean = tuple(self._slots)[index].clean
        if clean is None:
            raise SettingError("There are no previews: ask `generate` for them, previews=True.")
        return preview(clean, self._factors)


OnStep = Callable[[Step], object]
"""Called before the first row and after each; what it returns does not matter."""


def ignore(_step: Step) -> None:
    """Do nothing with a step."""
