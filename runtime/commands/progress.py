"""The bar that shows how far a command's pictures are."""

from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from tqdm import tqdm

    from runtime.steps import Step


class Progress:
    """A bar of the steps done and the time left, from the moment when their number is known."""

    def __init__(self, *, quiet: bool) -> None:
        """Show nothing if `quiet`."""
        self._quiet = quiet
        self._bar: tqdm[NoReturn] | None = None

    def show(self, step: "Step") -> None:
        """Move the bar to where the run stands."""
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=step.total, unit="step", disable=self._quiet)
        self._bar.update(step.done - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
