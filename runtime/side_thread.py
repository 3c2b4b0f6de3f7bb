"""Work that is done in another thread beside what its owner does."""

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue

from engines.errors import InternalError

Work = Callable[[], object]

_Outcome = SimpleQueue[BaseException | None]
_Tasks = SimpleQueue[tuple[Work, _Outcome] | None]


class SideThread:
    """A thread for one piece of work at a time, started when there is the first.

    `concurrent.futures` has two habits that do not do here: its pools take no work any more once
    the main thread has ended, though others go on; and Ctrl-C while work is handed over can leave a
    lock of theirs taken for ever. A `SimpleQueue` has neither.

    A forked process has no thread but the one that forked, so it starts one of its own.
    """

    def __init__(self, name: str) -> None:
        """Name the thread; it is not started yet."""
        self._name = name
        self._prepare()

    def _prepare(self) -> None:
        """Have no thread yet, and a queue that no other process's thread waits at."""
        self._process = os.getpid()
        self._tasks: _Tasks = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._end = weakref.finalize(self, self._tasks.put, None)

    @contextmanager
    def doing(self, work: Work) -> Iterator[None]:
        """Do some work beside the block, and wait for its end.

        Raises what the work raised, unless the block raises something itself.

        Raises:
            InternalError: the thread was ended.
        """
        if not self._end.alive:
            raise InternalError(f"the thread {self._name} has ended")
        if self._process != os.getpid():
            self._prepare()
        if not _started(self._thread):
            self._start()
        outcome: _Outcome = SimpleQueue()
        self._tasks.put((work, outcome))
        try:
            yield
        finally:
            error = outcome.get()
        if error is not None:
            raise error

    def close(self) -> None:
        """End the thread; no work can be done any more. A second call does nothing."""
        self._end()
        if self._thread is not None and _started(self._thread):
            self._thread.join()

    def _start(self) -> None:
        """Start a daemon: an owner that was never closed must not keep the program from ending.

        The thread is known before it runs: Ctrl-C while it starts leaves it to the next work.
        """
        self._thread = threading.Thread(
            target=_work, args=(self._tasks,), name=self._name, daemon=True
        )
        self._thread.start()


def _started(thread: threading.Thread | None) -> bool:
    return thread is not None and thread.ident is not None


def _work(tasks: _Tasks) -> None:
    while (task := tasks.get()) is not None:
        _do(*task)
        del task  # what it holds may be large, and the next one may be long in coming
    tasks.put(None)  # for another one: Ctrl-C may have kept its start from being known


def _do(work: Work, outcome: _Outcome) -> None:
    try:
        work()
    except BaseException as error:  # the owner raises it
        outcome.put(error)
    else:
        outcome.put(None)
