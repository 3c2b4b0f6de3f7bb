"""How the engines are doing: the call that is being made, and the calls that failed."""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from engines.errors import BackendError
from runtime.server.metrics import Metrics
from runtime.slot import NonFinitePredictionError

MAX_FAILURES = 3
"""Failures of an engine in a row after which the server counts as not ready."""


@dataclass(frozen=True)
class _Call:
    stage: str
    began: float


class Health:
    """Written by the thread that calls the engines, read by any."""

    def __init__(self, metrics: Metrics) -> None:
        """Know of no call yet; `metrics` are told of each."""
        self._metrics = metrics
        self._call: _Call | None = None
        self._failures: Counter[str] = Counter()

    @property
    def failing(self) -> bool:
        """Whether an engine has failed too often in a row."""
        return self._most_failures >= MAX_FAILURES

    def why_not_ready(self, stall_seconds: float) -> str | None:
        """Why no work should come here now, or None.

        Args:
            stall_seconds: how long one call may take.
        """
        call = self._call
        if call is not None and time.monotonic() - call.began > stall_seconds:
            return f"a call of the engine ({call.stage}) is stuck for over {stall_seconds:g} s"
        if self.failing:
            return f"the last {self._most_failures} calls of the engine failed"
        return None

    @contextlib.contextmanager
    def calling(self, stage: str, *, timed: bool = True) -> Iterator[None]:
        """Make one call within this context.

        A prediction that overflowed is the picture's fault, not the engine's.

        Args:
            stage: what the call is for.
            timed: whether its seconds are told to `metrics`.
        """
        began = time.monotonic()
        self._call = _Call(stage, began)
        try:
            yield
        except NonFinitePredictionError:
            self._failures[stage] = 0
            raise
        except BackendError:
            self._failures[stage] += 1
            self._metrics.engine_failures.labels(stage).inc()
            raise
        else:
            self._failures[stage] = 0
            if timed:
                self._metrics.stage.labels(stage).observe(time.monotonic() - began)
        finally:
            self._call = None

    def forgive(self) -> None:
        """Forget the failures: every engine was seen to work."""
        self._failures.clear()

    @property
    def _most_failures(self) -> int:
        return max(dict(self._failures).values(), default=0)
