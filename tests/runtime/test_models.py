"""Models on an engine that compiles for sizes: what is prepared is what the pictures need."""

import threading
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from engines import layout
from engines.any_batch import open_to_any_batch
from engines.axes import Limits, fixed_limits
from engines.backend import Choice
from engines.backends.fixed_sizes import FixedSizesSession
from engines.bundle import Bundle
from engines.errors import BackendError, SettingError
from engines.session import Session
from runtime.guidance import GuidanceSettings
from runtime.pipeline import Pipeline
from runtime.request import Request
from runtime.stopwatch import Stopwatch, TimedBackend
from tests.runtime.stand_ins import StandInBackend, StandInSession, open_stand_in
from tests.waiting import PATIENCE

LATENTS = 8
"""The stand-in's pictures are 64 by 64 by default."""


class CompilingBackend:
    """Stand-ins that are compiled for sizes; the text encoder for none."""

    name = "compiling"
    device = "formulas"
    max_batch = 2

    def __init__(self) -> None:
        self.compiled: list[tuple[str, dict[str, int]]] = []
        self.threads: set[str] = set()
        self.opened: list[str] = []
        self.text_opened = threading.Event()
        self.fails = ""

    def unavailable(self, bundle: Bundle) -> str | None:
        return None

    def limits(self, bundle: Bundle) -> Limits:
        return fixed_limits(bundle.manifest)

    def open_session(self, bundle: Bundle, component: str) -> Session:
        self.opened.append(component)
        if component == layout.TEXT_ENCODER:
            self.text_opened.set()
            return StandInSession(component)

        def compile_for(sizes: Mapping[str, int]) -> Session:
            if component == self.fails:
                raise BackendError("no memory left")
            # Only where the text encoder is opened meanwhile does a compilation end.
            assert self.text_opened.wait(PATIENCE)
            self.compiled.append((component, dict(sizes)))
            self.threads.add(threading.current_thread().name)
            return StandInSession(component)

        spec = bundle.component(component)
        return open_to_any_batch(FixedSizesSession(spec, compile_for), component, spec, most=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_stand_in(tmp_path_factory.mktemp("bundle"))


def unet(height: int = LATENTS, width: int = LATENTS, tokens: int = 77) -> dict[str, int]:
    return {"batch": 1, "height": height, "width": width, "tokens": tokens}


def decoder(height: int = LATENTS, width: int = LATENTS) -> dict[str, int]:
    return {"batch": 1, "height": height, "width": width}


@pytest.mark.parametrize(
    ("request_", "unets", "decoders"),
    [
        (Request("a cat"), [unet()], [decoder()]),
        (Request("a cat", count=3), [unet()], [decoder()]),
        (Request("a cat", cfg=1), [unet()], [decoder()]),
        (Request("a cat", cfg=1, count=3), [unet()], [decoder()]),
        (Request("a cat AND a dog AND a cow"), [unet()], [decoder()]),
        (Request("a cat", guidance=GuidanceSettings(start=0.3, end=0.8)), [unet()], [decoder()]),
        (Request("a cat", width=128, height=96), [unet(12, 16)], [decoder(12, 16)]),
        (Request("a cat BREAK a dog"), [unet(tokens=154)], [decoder()]),
        (Request("a cat", width=960, vae_tiling="on"), [unet(8, 120)], [decoder(8, 96)]),
    ],
)
def test_each_graph_is_compiled_once(
    bundle: Bundle,
    request_: Request,
    unets: list[dict[str, int]],
    decoders: list[dict[str, int]],
) -> None:
    backend = CompilingBackend()
    request_ = replace(request_, seed=3)
    with Pipeline(bundle, Choice(backend, "asked for")) as pipeline:
        pictures = list(pipeline.generate(request_))
    assert [sizes for component, sizes in backend.compiled if component == layout.UNET] == unets
    vae = [sizes for component, sizes in backend.compiled if component == layout.VAE_DECODER]
    assert vae == decoders
    assert threading.current_thread().name not in backend.threads
    plain = StandInBackend()
    with Pipeline(bundle, Choice(plain, "asked for"), max_batch=2) as pipeline:
        for made, wanted in zip(pictures, pipeline.generate(request_), strict=True):
            np.testing.assert_array_equal(made.pixels, wanted.pixels)


def test_a_timed_backend_prepares_too(bundle: Bundle) -> None:
    backend = CompilingBackend()
    timed = TimedBackend(backend, Stopwatch())
    with Pipeline(bundle, Choice(timed, "asked for")) as pipeline:
        list(pipeline.generate(Request("a cat")))
    assert len(backend.compiled) == 2
    assert threading.current_thread().name not in backend.threads


@pytest.mark.parametrize("component", [layout.UNET, layout.VAE_DECODER])
def test_a_failed_preparation_fails_the_run(bundle: Bundle, component: str) -> None:
    backend = CompilingBackend()
    backend.fails = component
    with Pipeline(bundle, Choice(backend, "asked for")) as pipeline:
        with pytest.raises(BackendError, match="no memory left"):
            list(pipeline.generate(Request("a cat")))
        backend.fails = ""
        assert len(list(pipeline.generate(Request("a cat")))) == 1


def test_a_batch_that_holds_no_picture_is_refused_before_anything_is_loaded(
    bundle: Bundle,
) -> None:
    backend = CompilingBackend()
    with pytest.raises(SettingError, match="A batch of 1 cannot hold a picture with guidance"):
        Pipeline(bundle, Choice(backend, "asked for"), max_batch=1)
    assert not backend.opened


def test_nothing_is_loaded_before_the_first_picture_is_asked_for(bundle: Bundle) -> None:
    backend = CompilingBackend()
    with Pipeline(bundle, Choice(backend, "asked for")) as pipeline:
        pictures = pipeline.generate(Request("a cat"))
        assert not backend.opened
        assert not list(pipeline.generate([]))
        assert not backend.opened
        next(pictures)
        assert backend.opened


def test_nothing_is_prepared_again(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = CompilingBackend()
    with Pipeline(bundle, Choice(backend, "asked for")) as pipeline:
        list(pipeline.generate(Request("a cat", seed=3)))
        monkeypatch.setattr("runtime.models.SideThread", None)
        list(pipeline.generate(Request("a dog", seed=4)))
    assert len(backend.compiled) == 2
