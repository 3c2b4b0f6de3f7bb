"""Threads that take turns, and that do not take away what another one uses."""

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


class Life:
    """A lock around each use of something that any thread may end."""

    def __init__(self) -> None:
        """Begin."""
        self._lock = threading.RLock()
        self._ended = False

    @contextmanager
    def use(self) -> Iterator[None]:
        """Keep it from ending meanwhile.

        Raises:
            InternalError: it has ended.
        """
        with self._lock:
            if self._ended:
                raise InternalError("the pipeline is closed: open another one")
            yield

    @contextmanager
    def end(self) -> Iterator[None]:
        """Let nobody use it again, and wait until nobody does."""
        self._ended = True
        with self._lock:
            yield
