"""Waiting for what another thread or process does."""

import time
from collections.abc import Callable

PATIENCE = 120.0
"""Seconds that anything takes at most, on a machine ten times slower too: only failures wait."""


def wait_until(condition: Callable[[], object], *, every: float = 0.002) -> None:
    """Look `every` so many seconds until the condition holds."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(every)
