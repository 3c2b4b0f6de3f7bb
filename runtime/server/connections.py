"""How many connections may be open, and which of them goes where there are too many.

A connection is busy from the head of a request until its answer is sent, and silent otherwise: it
has not said anything yet, is in the middle of a head, or is kept for the next request. Beyond the
limit, the one that has been silent longest is closed. Where all are busy, a few more are let in, so
that load balancers still learn of the server's health; `middleware.ConnectionLimit` refuses them
everything else. Beyond these, new connections are closed at once.
"""

import time
from collections.abc import Callable
from typing import Protocol

from runtime.server.metrics import Closed, Metrics

RESERVED = 16
"""Connections beyond the limit that are let in for questions about the server's health."""

GRACE_SECONDS = 1.0
"""How long a connection may be silent without being closed to make room for another."""


class Connection(Protocol):
    """What is to be known of a connection."""

    @property
    def busy(self) -> bool:
        """Whether a request is being read or answered on it."""

    def abort(self) -> None:
        """Close it at once."""


class Connections:
    """The open connections; only the event loop's thread calls it."""

    def __init__(
        self, most: int, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Know of none yet.

        Args:
            most: how many there may be.
            metrics: are told of those that are open and of those that are closed for protection.
            clock: the time in seconds.
        """
        self._most = most
        self._metrics = metrics
        self._clock = clock
        self._used: dict[Connection, float] = {}  # since when, the longest ago in front
        metrics.observe_gauge(
            "fracture_http_connections", "Open connections", lambda: len(self._used)
        )

    @property
    def crowded(self) -> bool:
        """Whether there are more than there may be, after the silent have made room."""
        self._make_room(self._most)
        return len(self._used) > self._most

    def admit(self, connection: Connection) -> bool:
        """Count a new connection, or return false where there is no room for it."""
        self._make_room(self._most - 1)
        if len(self._used) >= self._most + RESERVED:
            self.count_closed(Closed.REFUSED)
            return False
        self._used[connection] = self._clock()
        return True

    def mark_used(self, connection: Connection) -> None:
        """A request was answered on it."""
        if self._used.pop(connection, None) is not None:
            self._used[connection] = self._clock()

    def remove(self, connection: Connection) -> None:
        """It is closed."""
        self._used.pop(connection, None)

    def count_closed(self, why: Closed) -> None:
        """Tell the metrics of a connection that the server closes to protect itself."""
        self._metrics.connections_closed.labels(why.value).inc()

    def _make_room(self, count: int) -> None:
        """Close those that have been silent longest until there are `count`, where that helps."""
        excess = len(self._used) - count
        if excess <= 0:
            return
        until = self._clock() - GRACE_SECONDS
        silent = [each for each, used in self._used.items() if used <= until and not each.busy]
        for connection in silent[:excess]:
            self.remove(connection)
            self.count_closed(Closed.SILENT)
            connection.abort()
