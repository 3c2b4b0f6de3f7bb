"""Threads that take turns."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from engines.errors import InternalError


class Turns:
    """A lock that says so where one thread would wait for itself."""

    def __init__(self) -> None:
        """Let the first one in."""
        self._lock = threading.Lock()
        self._owner: int | None = None

    @contextmanager
    def one(self) -> Iterator[None]:
        """Wait for the others, and let none in meanwhile. Any thread may end it.

        Raises:
            InternalError: it is this very thread that the lock is waiting for.
        """
        if self._owner == threading.get_ident():
            raise InternalError(
                "this thread has a run of generate that has not ended: finish or close it first"
            )
        with self._lock:
            self._owner = threading.get_ident()
            try:
                yield
            finally:
                self._owner = None
