"""How long a download waits and how often it tries again."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Limits:
    """The bounds of one download.

    `attempts` counts failures in a row: a large file over a poor line starts the count anew
    whenever it has come a good piece further. Pauses double from `backoff_s`; a server that asks
    for a longer one gets it, up to `longest_pause_s`.
    """

    connect_s: float = 10.0
    stall_s: float = 30.0
    attempts: int = 5
    backoff_s: float = 1.0
    longest_pause_s: float = 60.0
    redirects: int = 10


DEFAULT_LIMITS: Final = Limits()
