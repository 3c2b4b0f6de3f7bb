"""Work beside the owner's: it is waited for, its errors arrive, and the thread ends."""

import gc
import signal
import subprocess
import sys
import threading
import weakref

import pytest

from engines.errors import InternalError
from runtime.side_thread import SideThread
from tests.runtime.stand_ins import ROOT
from tests.waiting import PATIENCE


def sides() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "side"]


def test_work_is_done_beside_the_block_and_waited_for() -> None:
    go_on = threading.Event()
    done: list[threading.Thread] = []

    def work() -> None:
        assert go_on.wait(10)
        done.append(threading.current_thread())

    side = SideThread("side")
    assert not sides()
    for count in (1, 2):
        with side.doing(work):
            assert len(done) == count - 1
            go_on.set()
        assert len(done) == count
    assert done[0] is done[1] is not threading.current_thread()
    side.close()
    assert not sides()


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_error_of_the_work_is_raised(error: type[BaseException]) -> None:
    def fail() -> None:
        raise error

    side = SideThread("side")
    with pytest.raises(error), side.doing(fail):
        pass
    with side.doing(int):
        pass
    side.close()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_blocks_own_error_comes_first(error: type[BaseException]) -> None:
    """It is raised when the work has ended, which may use what the block's owner then closes."""
    go_on, ended = threading.Event(), threading.Event()

    def work() -> None:
        assert go_on.wait(10)
        ended.set()
        raise ZeroDivisionError

    side = SideThread("side")
    with pytest.raises(error), side.doing(work):
        go_on.set()
        raise error
    assert ended.is_set()
    side.close()


def test_a_thread_that_was_ended_takes_no_work() -> None:
    for begun in (False, True):
        side = SideThread("side")
        if begun:
            with side.doing(int):
                pass
        side.close()
        side.close()
        with pytest.raises(InternalError, match="side has ended"), side.doing(int):
            pass


@pytest.mark.parametrize("begun", [False, True], ids=["before it runs", "when it runs"])
def test_an_interrupt_while_the_thread_starts(
    monkeypatch: pytest.MonkeyPatch, *, begun: bool
) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if begun:
            start(thread)
        signal.raise_signal(signal.SIGINT)

    side = SideThread("side")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(threading.Thread, "start", interrupted)
        with side.doing(int):
            pass
    for _ in range(3):
        with side.doing(int):
            pass
    assert len(sides()) == 1
    side.close()
    assert not sides()


def test_an_interrupted_start_may_not_be_known_at_the_end() -> None:
    """Then it ends as well."""
    side = SideThread("side")
    side._start()
    unknown = side._thread
    side._start()
    with side.doing(int):
        pass
    assert unknown is not None
    assert len(sides()) == 2
    side.close()
    unknown.join(PATIENCE)
    assert not sides()


def test_a_forked_process_starts_its_own_thread() -> None:
    script = """
import os
import sys
from runtime.side_thread import SideThread

def do(side, text):
    with side.doing(lambda: os.write(1, text)):
        pass

side, idle, closed = (SideThread("side") for _ in range(3))
for each in (side, idle, closed):
    do(each, b"parent ")
closed.close()
if os.fork() == 0:
    do(side, b"child ")
    do(side, b"again ")
    side.close()
    idle.close()
    closed.close()
    os._exit(0)
_, status = os.wait()
do(side, b"parent")
side.close()
sys.exit(status)
"""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "parent parent parent child again parent"


def test_the_thread_ends_with_an_owner_that_forgot_it() -> None:
    side = SideThread("side")
    with side.doing(int):
        pass
    (thread,) = sides()
    assert thread.daemon
    del side
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


def test_an_idle_thread_keeps_nothing_alive() -> None:
    class Large:
        def work(self) -> None: ...

    large = Large()
    gone = threading.Event()
    weakref.finalize(large, gone.set)
    side = SideThread("side")
    with side.doing(large.work):
        pass
    del large
    assert gone.wait(10)
    side.close()
