"""TensorRT's progress and output, received."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from convert.plans.api import TensorRt

_LEAST_REPORTED: Final = 0.002


@dataclass
class _Phase:
    """A phase that is going on. `share` is the part of the whole build that it makes up."""

    name: str
    steps: int
    share: float
    done: int = 0


class Progress:
    """How much of a build is done, from the phases that TensorRT tells of.

    A phase's steps count alike, and a phase inside another takes up one of its steps.
    """

    def __init__(self, on_progress: Callable[[float, str], None]) -> None:
        """Report to `on_progress`: the part that is done, 0 to 1, and the phase's name."""
        self._on_progress = on_progress
        self._phases: list[_Phase] = []
        self._done = 0.0
        self._reported: tuple[float, str] = (-1.0, "")

    def start(self, name: str, steps: int) -> None:
        """A phase begins inside the current one."""
        parent = self._phases[-1] if self._phases else None
        share = parent.share / max(parent.steps, 1) if parent else 1.0
        self._phases.append(_Phase(name, steps, share))
        self._report()

    def step(self, name: str) -> None:
        """A step of the phase is complete."""
        for phase in self._phases:
            if phase.name == name:
                phase.done = min(phase.done + 1, phase.steps)
        self._report()

    def finish(self, name: str) -> None:
        """The phase has ended, and with it those inside it."""
        names = [phase.name for phase in self._phases]
        if name in names:
            del self._phases[len(names) - 1 - names[::-1].index(name) :]

    def _report(self) -> None:
        done = sum(phase.share * phase.done / max(phase.steps, 1) for phase in self._phases)
        self._done = max(self._done, min(done, 1.0))
        name = self._phases[-1].name if self._phases else ""
        before, before_name = self._reported
        if self._done - before >= _LEAST_REPORTED or name != before_name:
            self._reported = self._done, name
            self._on_progress(self._done, name)


def make_monitor(library: TensorRt, progress: Progress) -> Any:
    """A progress monitor of TensorRT's that tells `progress`."""
    base = library.IProgressMonitor

    class Monitor(base):  # type: ignore[misc, valid-type]
        """Passes everything on, and never asks for the build to be cancelled."""

        def __init__(self) -> None:
            base.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress.step(phase_name)
            return True

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

    return Monitor()


class PlanFile:
    """A file that a plan is written to; an error waits until TensorRT has returned."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write; 0 after an error, upon which TensorRT gives up."""
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            return 0


def make_writer(library: TensorRt, file: PlanFile) -> Any:
    """A stream writer of TensorRT's that writes to `file`."""
    base = library.IStreamWriter

    class Writer(base):  # type: ignore[misc, valid-type]
        """Passes everything on."""

        def __init__(self) -> None:
            base.__init__(self)

        def write(self, data: bytes) -> int:
            return file.write(data)

    return Writer()
