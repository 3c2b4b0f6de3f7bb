"""Work beside the owner's: it is waited for, its errors arrive, and the thread ends."""

import gc
import threading
import weakref

import pytest

from engines.errors import InternalError
from runtime.side_thread import SideThread


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
