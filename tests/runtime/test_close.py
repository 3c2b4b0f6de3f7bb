"""Closing a pipeline that is in use, by the thread that uses it and by another."""

import threading
from collections.abc import Mapping

import pytest

from engines import layout
from engines.backend import Choice
from engines.bundle import Bundle
from engines.errors import InternalError
from engines.session import Array
from runtime.pipeline import Pipeline
from runtime.request import Request
from tests.runtime.stand_ins import StandInBackend, open_stand_in


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
        assert go_on.wait(10)
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
    assert called.wait(10)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    assert not unet.closed
    go_on.set()
    making.join(10)
    closing.join(10)
    assert all(session.closed for session in backend.sessions.values())
    (error,) = errors
    assert "closed" in str(error)
