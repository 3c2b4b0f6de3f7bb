"""How long a stage takes and how much memory it needs."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_CLEAR_REFERENCES = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"


@dataclass(eq=False)
class Measurement:
    """Seconds, and the largest resident size in bytes, of a stage that has ended."""

    seconds: float = 0.0
    peak_bytes: int = 0

    def __str__(self) -> str:
        """The figures as a command prints them."""
        return f"{self.seconds:.1f} s, peak {self.peak_bytes / 1e6:.0f} MB"


_running: list[Measurement] = []
"""The blocks that are being measured, outer ones first: the system keeps one peak for them all."""


@contextmanager
def measured() -> Iterator[Measurement]:
    """Measure the block, which may hold others; the figures are there when it has ended.

    Where the system cannot start the peak afresh (all but Linux), it is the process's so far.
    """
    result = Measurement()
    for outer in _running:
        outer.peak_bytes = max(outer.peak_bytes, _peak_bytes())
    _start_peak_afresh()
    _running.append(result)
    started = time.perf_counter()
    try:
        yield result
    finally:
        _running.remove(result)
        result.seconds = time.perf_counter() - started
        result.peak_bytes = max(result.peak_bytes, _peak_bytes())


def _start_peak_afresh() -> None:
    try:
        _CLEAR_REFERENCES.write_text(_RESET_PEAK)
    except OSError:
        return


def _peak_bytes() -> int:
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
