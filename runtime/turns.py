"""Threads that take turns, and that do not take away what another one uses."""

import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from engines.errors import InternalError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Turns:
    """One piece of work at a time, and an error where a thread would wait for itself.

    The lock is let go of by its own `with`, which Ctrl-C cannot keep from it. A context manager
    written in Python can be interrupted before it has done anything, and would then hold the lock
    as long as somebody keeps the traceback.
    """

    def __init__(self, fault: str) -> None:
        """Let the first one in.

        Args:
            fault: what is wrong where a thread would wait for itself, and what to do.
        """
        self._fault = fault
        self._lock = threading.RLock()
        self._taken = False

    def take(
        self,
        work: Callable[Arguments, Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """Wait for the others, do the work with its arguments, and return what it returns.

        Raises:
            InternalError: it is this very thread, further out, that has its turn.
        """
        with self._lock:
            if self._taken:
                raise InternalError(self._fault)
            self._taken = True
            try:
                return work(*args, **kwargs)
            finally:
                self._taken = False


class Life:
    """One use at a time of something that any thread may end."""

    def __init__(self) -> None:
        """Begin."""
        self._turns = Turns("a pipeline is closed in the middle of its own row: stop its run first")
        self._ended = False

    def use(
        self,
        work: Callable[Arguments, Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """Do the work with its arguments, keep it from ending meanwhile, and return the result.

        Raises:
            InternalError: it has ended, or this thread uses it already.
        """

        def work_alive() -> Result:
            if self._ended:
                raise InternalError("the pipeline is closed: open another one")
            return work(*args, **kwargs)

        return self._turns.take(work_alive)

    def end(self, work: Callable[[], None]) -> None:
        """Let nobody use it again, wait until nobody does, and do the work of ending it.

        Raises:
            InternalError: it is this thread that uses it, as in a signal's handler.
        """
        self._ended = True
        self._turns.take(work)
