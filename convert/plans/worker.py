"""Building one plan in a process of its own.

TensorRT's builder cannot be interrupted, and where memory runs out it ends the process that it is
in, or the system does. Neither may take the converter along.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Final

from convert.measure import Measurement, measured
from convert.plans.engine import PlanTask, build_engine
from convert.plans.library import open_library
from engines.errors import BackendError, InternalError, UserError

_POLL_S: Final = 0.5
_ORPHANED: Final = 1
_MEMORY_ADVICE: Final = (
    "Free some memory or use a machine with more (the UNet of Stable Diffusion 1.5 takes about "
    "7 GB), or build for fewer sizes at a time with --size."
)


@dataclass(frozen=True)
class _Advance:
    """The part of the build that is done, 0 to 1, and the name of TensorRT's phase."""

    done: float
    phase: str


@dataclass(frozen=True)
class _Warned:
    """A warning of TensorRT's."""

    text: str


@dataclass(frozen=True)
class _Failed:
    """What the build ended with; `trace` is empty where it is not a fault of ours."""

    error: Exception
    trace: str = ""


_Message = _Advance | _Warned | _Failed | Measurement


def build_apart(
    task: PlanTask,
    on_progress: Callable[[float | None, str], None],
    warn: Callable[[str], None],
) -> Measurement:
    """Build a plan, and return what it took.

    Args:
        task: what to build.
        on_progress: called with the part that is done, 0 to 1, and the name of the phase; and
            about twice a second with None and "", while nothing is heard.
        warn: called with each warning of TensorRT's.

    Raises:
        BackendError: as `build_engine` has it, or the memory did not suffice.
        OSError: the plan cannot be written.
    """
    with _started(task) as (process, connection):
        while True:
            try:
                if not connection.poll(_POLL_S):
                    on_progress(None, "")
                    continue
                message: _Message = connection.recv()
            except (EOFError, ConnectionError):
                process.join()
                raise BackendError(_death(task, process.exitcode)) from None
            if isinstance(message, _Advance):
                on_progress(message.done, message.phase)
            elif isinstance(message, _Warned):
                warn(message.text)
            elif isinstance(message, Measurement):
                return message
            else:
                _raise(task, message)


@contextlib.contextmanager
def _started(task: PlanTask) -> Iterator[tuple[BaseProcess, Connection]]:
    """The process that builds, which is gone when the block ends."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sending, task), name=task.component, daemon=True)
    process.start()
    sending.close()
    try:
        yield process, receiving
    finally:
        process.kill()
        process.join()
        process.close()
        receiving.close()


def _work(connection: Connection, task: PlanTask) -> None:
    """What the process does. The terminal's interrupt is for the one that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def send(message: _Message) -> None:
        try:
            connection.send(message)
        except OSError:  # nobody is there any more
            os._exit(_ORPHANED)

    try:
        library = open_library(task.module, task.backend)
        _silence()
        with measured() as cost:
            build_engine(
                library,
                task,
                lambda done, phase: send(_Advance(done, phase)),
                lambda text: send(_Warned(text)),
            )
        send(cost)
    except (UserError, OSError, MemoryError) as error:
        send(_Failed(error))
    except Exception as error:
        send(_Failed(InternalError(repr(error)), traceback.format_exc()))


def _silence() -> None:
    """TensorRT prints what it also logs."""
    sys.stdout.flush()
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.__stdout__.fileno() if sys.__stdout__ else 1)
    os.dup2(nowhere, sys.__stderr__.fileno() if sys.__stderr__ else 2)


def _raise(task: PlanTask, failure: _Failed) -> None:
    if isinstance(failure.error, MemoryError):
        raise BackendError(_out_of_memory(task)) from None
    if failure.trace:
        raise InternalError(f"building the {task.component} failed\n{failure.trace}")
    raise failure.error


def _death(task: PlanTask, status: int | None) -> str:
    """What to say of a process that ended without a word."""
    if status == -signal.SIGKILL:
        return _out_of_memory(task)
    end = f"signal {signal.Signals(-status).name}" if status and status < 0 else f"status {status}"
    return (
        f"TensorRT's builder crashed on the {task.component} ({end}), which is most often for want "
        f"of memory. {_MEMORY_ADVICE}"
    )


def _out_of_memory(task: PlanTask) -> str:
    return f"The memory did not suffice to build the {task.component}. {_MEMORY_ADVICE}"
