"""Closing a pipeline that is in use, by the thread that uses it and by another; and Ctrl-C."""

import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from types import FrameType

import pytest

from engines import layout
from engines.backend import Choice
from engines.bundle import Bundle
from engines.errors import InternalError
from engines.session import Array
from runtime.calls import complete
from runtime.pipeline import Pipeline
from runtime.request import Request
from runtime.slot import Slot
from tests.runtime.stand_ins import ROOT, StandInBackend, open_stand_in
from tests.waiting import PATIENCE, wait_until


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_stand_in(tmp_path_factory.mktemp("bundle"))


def test_a_closed_pipeline_says_so(bundle: Bundle) -> None:
    backend = StandInBackend()
    pipeline = Pipeline(bundle, Choice(backend, "asked for"))
    pictures = pipeline.generate(Request("a cat", count=2, cfg=4), previews=True)
    next(pictures)
    pipeline.close()
    assert all(session.closed for session in backend.sessions.values())
    with pytest.raises(InternalError, match="closed"):
        next(pictures)
    with pytest.raises(InternalError, match="closed"):
        next(pipeline.generate(Request("a cat")))
    pipeline.close()


def test_closing_waits_for_the_row_of_another_thread(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = StandInBackend()
    pipeline = Pipeline(bundle, Choice(backend, "asked for"))
    list(pipeline.generate(Request("a cat")))
    unet = backend.sessions[layout.UNET]
    called, go_on = threading.Event(), threading.Event()
    predict = unet._predict

    def held(**feeds: Array) -> Mapping[str, Array]:
        called.set()
        assert go_on.wait(PATIENCE)
        assert not unet.closed
        return predict(**feeds)

    monkeypatch.setattr(unet, "_predict", held)
    errors: list[Exception] = []

    def make() -> None:
        try:
            list(pipeline.generate(Request("a cat")))
        except InternalError as error:
            errors.append(error)

    making = threading.Thread(target=make)
    closing = threading.Thread(target=pipeline.close)
    making.start()
    assert called.wait(PATIENCE)
    closing.start()
    wait_until(lambda: pipeline._life._ended)
    closing.join(0.05)
    assert closing.is_alive()
    assert not unet.closed
    go_on.set()
    making.join(PATIENCE)
    closing.join(PATIENCE)
    assert all(session.closed for session in backend.sessions.values())
    (error,) = errors
    assert "closed" in str(error)


def test_closing_in_the_middle_of_a_row(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a signal's handler may: what the row uses stays there, and the run ends."""
    backend = StandInBackend()
    pipeline = Pipeline(bundle, Choice(backend, "asked for"))
    list(pipeline.generate(Request("a cat")))
    unet = backend.sessions[layout.UNET]
    predict = unet._predict

    def close_first(**feeds: Array) -> Mapping[str, Array]:
        with pytest.raises(InternalError, match="stop its run first"):
            pipeline.close()
        assert not unet.closed
        return predict(**feeds)

    monkeypatch.setattr(unet, "_predict", close_first)
    with pytest.raises(InternalError, match="the pipeline is closed"):
        list(pipeline.generate(Request("a cat", sampler="Euler a")))
    pipeline.close()
    assert all(session.closed for session in backend.sessions.values())


def test_what_was_closed_loads_nothing(bundle: Bundle) -> None:
    backend = StandInBackend()
    pipeline = Pipeline(bundle, Choice(backend, "asked for"))
    pipeline.close()
    (settings,) = pipeline.settle([Request("a cat")])
    with pytest.raises(InternalError, match="the pipeline is closed"):
        complete(pipeline.start(settings, pipeline.table(settings)))
    with pytest.raises(InternalError, match="the pipeline is closed"):
        _ = pipeline.denoiser
    assert not backend.sessions


@pytest.mark.parametrize("after", [False, True], ids=["before a row", "after a row"])
def test_an_interrupted_run_leaves_nothing_behind(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, *, after: bool
) -> None:
    """Ctrl-C may come when runs have ended in the denoiser, and nobody knows of it yet."""
    wanted = [Request("a cat", seed=1, steps=1), Request("a dog", seed=2, sampler="Euler a")]
    with Pipeline(bundle, Choice(StandInBackend(), "asked for")) as pipeline:
        whole = {made.settings.seed: made.png() for made in pipeline.generate(wanted)}
        advance = pipeline.denoiser.advance

        def interrupted() -> list[Slot]:
            if after:
                advance()
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(pipeline.denoiser, "advance", interrupted)
            list(pipeline.generate(wanted))
        assert pipeline.denoiser.slots == ()
        assert {made.settings.seed: made.png() for made in pipeline.generate(wanted)} == whole


def test_an_interrupt_at_any_call_keeps_no_lock(bundle: Bundle) -> None:
    """Nor slots, though somebody keeps the exception, whose traceback keeps every frame."""
    watched = ("runtime/turns.py", "runtime/pipeline.py", "runtime/side_thread.py", "contextlib.py")
    wanted = Request("a dog", seed=2, sampler="Euler a", steps=2)
    with Pipeline(bundle, Choice(StandInBackend(), "asked for")) as pipeline:
        (settings,) = pipeline.settle([wanted])
        (whole,) = (made.png() for made in pipeline.generate(settings))
        kept: list[KeyboardInterrupt] = []
        found: list[bytes] = []

        def make() -> None:
            found.extend(made.png() for made in pipeline.generate(settings))

        def interrupted_at(number: int) -> bool:
            left = number

            def interrupt(frame: FrameType, event: str, _: object) -> None:
                nonlocal left
                code = frame.f_code
                if event == "call" and code.co_filename.endswith(watched):
                    left -= code.co_name != "<genexpr>"  # what ends one swallows interrupts
                    if not left:
                        sys.settrace(None)
                        signal.raise_signal(signal.SIGINT)

            traced = sys.gettrace()
            sys.settrace(interrupt)
            try:
                list(pipeline.generate(settings))
            except KeyboardInterrupt as error:
                kept.append(error)
                return True
            finally:
                sys.settrace(traced)
            return False

        number = 1
        while interrupted_at(number):
            thread = threading.Thread(target=make, daemon=True)
            thread.start()
            thread.join(PATIENCE)
            assert found == [whole] * number, f"after an interrupt at call {number}"
            number += 1
        assert number > 50


def test_a_thread_that_goes_on_when_the_main_one_has_ended(bundle: Bundle) -> None:
    """Pools of `concurrent.futures` take no work then."""
    script = f"""
import threading
from pathlib import Path
from engines.backend import Choice
from engines.bundle import open_bundle
from runtime.calls import complete
from runtime.pipeline import Pipeline
from runtime.request import Request
from tests.runtime.stand_ins import StandInBackend

bundle = open_bundle(Path({str(bundle.path)!r}))

def make():
    threading.main_thread().join()
    with Pipeline(bundle, Choice(StandInBackend(), "asked for")) as pipeline:
        print(len(list(pipeline.generate(Request("a cat", sampler="Euler a")))))

threading.Thread(target=make).start()
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (ended.stdout, ended.stderr) == ("1\n", "")
