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


@dataclass
class Measurement:
    """Seconds, and the largest resident size in bytes, of a stage that has ended."""

    seconds: float = 0.0
    peak_bytes: int = 0

    def __str__(self) -> str:
        """The figures as a command prints them."""
        return f"{self.seconds:.1f} s, peak {self.peak_bytes / 1e6:.0f} MB"


@contextmanager
def measured() -> Iterator[Measurement]:
    """Measure the block; the figures are there when it has ended.

    Where the system cannot start the peak afresh (all but Linux), it is the process's so far.
    """
    result = Measurement()
    _start_peak_afresh()
    started = time.perf_counter()
    try:
        yield result
    finally:
        result.seconds = time.perf_counter() - started
        result.peak_bytes = _peak_bytes()


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
