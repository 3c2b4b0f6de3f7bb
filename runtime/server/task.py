"""Work on the engines that is done one call at a time, between the rows of others."""

from engines import layout
from runtime.calls import Calls
from runtime.png import Picture
from runtime.server.health import Health

STAGES = {
    layout.TEXT_ENCODER: "text",
    layout.VAE_ENCODER: "encode",
    layout.VAE_DECODER: "decode",
}
"""What the calls of each component are for, as metrics and messages name it."""


class Task:
    """What one picture, or several of one job, need before or after they are denoised.

    Attributes:
        done: whether all of it is done.
        picture: what came of it, where it was the last that a picture needs.
    """

    def __init__(self, calls: Calls[Picture | None], health: Health) -> None:
        """Do `calls`, watched by `health`; nothing is done yet."""
        self.done = False
        self.picture: Picture | None = None
        self._calls = calls
        self._health = health
        self._next: str | None = None

    def step(self) -> bool:
        """Make the next call, and do what follows up to the one after; returns whether there was.

        Raises:
            Exception: whatever the work raises; it cannot be gone on with.
        """
        if self._next is None:
            self._go_on()
        if self.done or self._next is None:
            return False
        with self._health.calling(STAGES[self._next]):
            self._go_on()
        return True

    def close(self) -> None:
        """Give up what is not done."""
        self._calls.close()

    def _go_on(self) -> None:
        try:
            self._next = next(self._calls)
        except StopIteration as end:
            self.done, self.picture = True, end.value
