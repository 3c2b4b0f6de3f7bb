"""Threads that take turns, and that do not take away what another one uses."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from engines.errors import InternalError


class Turns:
    """A lock that says so where one thread would wait for itself."""

    def __init__(self, fault: str) -> None:
        """Let the first one in.

        Args:
            fault: what is wrong where a thread would wait for itself, and what to do.
        """
        self._fault = fault
        self._lock = threading.Lock()
        self._owner: threading.Thread | None = None

    @contextmanager
    def one(self) -> Iterator[None]:
        """Wait for the others, and let none in meanwhile. Any thread may end it.

        Raises:
            InternalError: it is this very thread that the lock is waiting for.
        """
        thread = threading.current_thread()
        if self._owner is thread:
            raise InternalError(self._fault)
        with self._lock:
            self._owner = thread
            try:
                yield
            finally:
                self._owner = None


class Life:
    """One use at a time of something that any thread may end."""

    def __init__(self) -> None:
        """Begin."""
        self._turns = Turns("a pipeline is closed in the middle of its own row: stop its run first")
        self._ended = False

    @contextmanager
    def use(self) -> Iterator[None]:
        """Keep it from ending meanwhile.

        Raises:
            InternalError: it has ended, or this thread uses it already.
        """
        with self._turns.one():
            if self._ended:
                raise InternalError("the pipeline is closed: open another one")
            yield

    @contextmanager
    def end(self) -> Iterator[None]:
        """Let nobody use it again, and wait until nobody does.

        Raises:
            InternalError: it is this thread that uses it, as in a signal's handler.
        """
        self._ended = True
        with self._turns.one():
            yield
