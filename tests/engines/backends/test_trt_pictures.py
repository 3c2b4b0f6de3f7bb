"""The whole runtime on stand-in plans: the CPU backend's pictures, and mistakes that are caught.

A stand-in that lets mistakes through would make every other test of the sessions worthless, so
mistakes are put into the real session code here, and each has to be noticed.
"""

import gc
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engines import layout
from engines.backend import Choice, choose_backend
from engines.backends import trt_session
from engines.backends.trt_context import ShapeContext
from engines.backends.trt_engine import Engine
from engines.backends.trt_graphs import CapturedGraph
from engines.backends.trt_machine import Machine
from engines.backends.trt_memory import Block, DeviceBlock, TensorMemory
from engines.backends.trt_session import TrtSession
from engines.bundle import Bundle, open_bundle
from engines.plans import PLAN_BACKENDS
from runtime.__main__ import main
from runtime.pipeline import Pipeline
from runtime.request import Request
from tests.engines.backends.stand_in_plans import ANY_SIZE, StandInMachine, add_plans

NARROW = {
    **ANY_SIZE,
    "height": (8, 8, 8),
    "width": (8, 8, 8),
    "picture_height": (64, 64, 64),
    "picture_width": (64, 64, 64),
}
REQUESTS = (
    Request("a woman, cracked skin", seed=1, steps=3, width=64, height=64, count=3),
    Request("a (blue:1.2) woman " * 20, seed=9, steps=2, width=96, height=64, cfg=1.0),
    Request("a man", seed=4, steps=3, width=64, height=64),
)


@pytest.fixture(scope="module")
def bundle(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The demo bundle with plans for both backends."""
    path = tmp_path_factory.mktemp("plans") / "demo"
    shutil.copytree(demo_bundle, path)
    bundle = open_bundle(path)
    for backend in PLAN_BACKENDS:
        add_plans(bundle, backend, NARROW, ANY_SIZE)
    return bundle


def _pictures(bundle: Bundle, choice: Choice) -> list[Any]:
    with Pipeline(bundle, choice, max_batch=4) as pipeline:
        pictures = pipeline.generate(pipeline.settle(REQUESTS))
        return [picture.pixels for picture in pictures]


@pytest.fixture(scope="module")
def expected(bundle: Bundle) -> list[Any]:
    """The CPU backend's pictures, the finished ones first."""
    return _pictures(bundle, choose_backend("cpu", bundle))


@pytest.mark.parametrize("name", PLAN_BACKENDS)
def test_pictures_are_the_cpu_backends(bundle: Bundle, expected: list[Any], name: str) -> None:
    machine = StandInMachine()
    found = _pictures(bundle, Choice(machine.backend(name), "asked for"))
    assert len(found) == len(expected) == 5
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    gc.collect()
    assert machine.cuda.left_over() == []
    assert (machine.cuda.counts["cudaGraphLaunch"] > 5) == (name == "tensorrt")


def test_the_command_makes_the_same_picture(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = StandInMachine()
    backend = machine.backend("tensorrt-rtx")
    monkeypatch.setattr("engines.backends.tensorrt_rtx.BACKEND", backend)
    arguments = ["generate", "a woman", "--seed", "3", "--steps", "2", "--size", "64x64", "--quiet"]
    arguments += ["--bundle", str(bundle.path)]
    for name in ("cpu", "tensorrt-rtx"):
        out = tmp_path / f"{name}.png"
        assert main([*arguments, "--backend", name, "--out", str(out)]) == 0
    cpu, rtx = (Image.open(tmp_path / f"{name}.png") for name in ("cpu", "tensorrt-rtx"))
    assert cpu.tobytes() == rtx.tobytes()
    assert machine.cuda.counts["executions"] == 4


def test_sizes_without_a_plan_are_refused_before_anything_is_loaded(
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine = StandInMachine()
    backend = machine.backend("tensorrt")
    monkeypatch.setattr("engines.backends.tensorrt.BACKEND", backend)
    arguments = ["generate", "a woman", "--size", "512x512", "--backend", "tensorrt", "--quiet"]
    arguments += ["--bundle", str(bundle.path), "--out", str(tmp_path / "x.png")]
    assert main(arguments) == 1
    assert (
        "The size 512x512 is not possible on this backend: the bundle's unet takes 64x64 or "
        "64x64 to 256x256." in capsys.readouterr().err
    )
    assert machine.cuda.counts["cudaMalloc"] == 0


Mistake = Callable[[pytest.MonkeyPatch], None]


def _forgets_to_synchronise(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Machine, "synchronise", lambda self: None)


def _takes_every_content_for_the_same(patch: pytest.MonkeyPatch) -> None:
    def holds(self: Any, array: Any) -> bool:
        return self._array is not None and self._array.shape == array.shape

    patch.setattr(TensorMemory, "holds", holds)


def _compares_numbers_without_shapes(patch: pytest.MonkeyPatch) -> None:
    def holds(self: Any, array: Any) -> bool:
        return self._array is not None and bool((self._array.flat[0] == array.flat[0]).all())

    patch.setattr(TensorMemory, "holds", holds)


def _takes_the_first_profile(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(trt_session, "choose_profile", lambda *_: 0)


def _selects_no_profile(patch: pytest.MonkeyPatch) -> None:
    make = Engine.new_context

    def new_context(self: Engine) -> Any:
        context = make(self)
        context.set_optimization_profile_async = lambda *_: True  # type: ignore[method-assign]
        return context

    patch.setattr(Engine, "new_context", new_context)


def _uses_one_context_for_all_shapes(patch: pytest.MonkeyPatch) -> None:
    find = TrtSession._context

    def context(self: TrtSession) -> tuple[bool, ShapeContext]:
        if self._contexts:
            return False, next(iter(self._contexts.values()))
        return find(self)

    patch.setattr(TrtSession, "_context", context)


def _keeps_graphs_when_memory_moves(patch: pytest.MonkeyPatch) -> None:
    place = ShapeContext._place

    def keep(self: Any, addresses: Any) -> None:
        graph, self._graph = self._graph, None
        place(self, addresses)
        self._graph = graph

    patch.setattr(ShapeContext, "_place", keep)


def _places_tensors_only_once(patch: pytest.MonkeyPatch) -> None:
    place = ShapeContext._place
    patch.setattr(ShapeContext, "_place", lambda self, each: self._addresses or place(self, each))


def _records_before_the_first_run(patch: pytest.MonkeyPatch) -> None:
    place = ShapeContext._place

    def eager(self: Any, addresses: Any) -> None:
        place(self, addresses)
        self._runs += 1

    patch.setattr(ShapeContext, "_place", eager)


def _forgets_an_input(patch: pytest.MonkeyPatch) -> None:
    write = TrtSession._write

    def forgetful(self: Any, name: str, array: Any) -> None:
        write(self, name, array)
        if name == layout.TIMESTEP and len(self._contexts) > 1:
            self._unsent.discard(name)

    patch.setattr(TrtSession, "_write", forgetful)


def _sends_nothing_but_the_first_time(patch: pytest.MonkeyPatch) -> None:
    upload = TensorMemory.upload
    seen: set[int] = set()

    def once(self: TensorMemory, stream: Any) -> None:
        if self.address not in seen:
            upload(self, stream)
        seen.add(self.address)

    patch.setattr(TensorMemory, "upload", once)


def _reuses_pinned_memory_at_once(patch: pytest.MonkeyPatch) -> None:
    upload = TensorMemory.upload

    def hasty(self: Any, stream: Any) -> None:
        upload(self, stream)
        self._array[...] = 0

    patch.setattr(TensorMemory, "upload", hasty)


def _forgets_to_download(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TensorMemory, "download", lambda *_: None)


def _never_grows(patch: pytest.MonkeyPatch) -> None:
    reserve = Block.reserve
    patch.setattr(Block, "reserve", lambda self, size: self.address or reserve(self, size))


def _claims_more_than_it_has(patch: pytest.MonkeyPatch) -> None:
    reserve = Block.reserve

    def lie(self: DeviceBlock, size: int) -> None:
        reserve(self, min(size, 64))
        self.size = size

    patch.setattr(DeviceBlock, "reserve", lie)


def _frees_twice(patch: pytest.MonkeyPatch) -> None:
    release = TensorMemory.release

    def forgetful(self: Any) -> None:
        if self.address:
            self._free(self.address)
            self.size = 0

    def twice(self: TensorMemory) -> None:
        release(self)
        release(self)

    patch.setattr(Block, "release", forgetful)
    patch.setattr(TensorMemory, "release", twice)


def _frees_before_the_work_is_done(patch: pytest.MonkeyPatch) -> None:
    upload = TensorMemory.upload

    def fickle(self: Any, stream: Any) -> None:
        upload(self, stream)
        self._device.reserve(self._device.size + 1)

    patch.setattr(TensorMemory, "upload", fickle)


def _copies_from_the_callers_memory(patch: pytest.MonkeyPatch) -> None:
    write, upload = TrtSession._write, TensorMemory.upload
    theirs: dict[TensorMemory, Any] = {}

    def remember(self: Any, name: str, array: Any) -> None:
        write(self, name, array)
        theirs[self._in[name]] = array

    def direct(self: Any, stream: Any) -> None:
        address, self._host.address = self._host.address, theirs[self].ctypes.data
        try:
            upload(self, stream)
        finally:
            self._host.address = address

    patch.setattr(TrtSession, "_write", remember)
    patch.setattr(TensorMemory, "upload", direct)


def _keeps_memory_after_close(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TensorMemory, "release", lambda self: None)


def _keeps_graphs_after_close(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CapturedGraph, "release", lambda self: None)


def _launches_graphs_of_released_contexts(patch: pytest.MonkeyPatch) -> None:
    enqueue = ShapeContext.enqueue

    def careless(self: Any, addresses: Any) -> None:
        enqueue(self, addresses)
        if self._graph is not None:
            self._context = None

    patch.setattr(ShapeContext, "enqueue", careless)
    patch.setattr(ShapeContext, "_open", lambda self: self._context)


def _shares_working_memory_that_is_too_small(patch: pytest.MonkeyPatch) -> None:
    place = ShapeContext._place

    def small(self: Any, addresses: Any) -> None:
        self._needed = 100
        place(self, addresses)

    patch.setattr(ShapeContext, "_place", small)


def _ignores_refusals(patch: pytest.MonkeyPatch) -> None:
    """Together with a wrong profile: the refusal is the only sign of it."""
    patch.setattr(ShapeContext, "_expect", lambda *_: None)
    _takes_the_first_profile(patch)


OTHER = "other pictures"

MISTAKES: Mapping[Mistake, str] = {
    _forgets_to_synchronise: "a stream is destroyed before its work is done",
    _takes_every_content_for_the_same: OTHER,
    _compares_numbers_without_shapes: OTHER,
    _takes_the_first_profile: "is outside of profile 0",
    _selects_no_profile: "a shape is set before a profile is selected",
    _uses_one_context_for_all_shapes: "ValueError",
    _keeps_graphs_when_memory_moves: "freed memory is used",
    _places_tensors_only_once: "freed memory is used",
    _records_before_the_first_run: "a graph is recorded before deferred work was done",
    _forgets_an_input: OTHER,
    _sends_nothing_but_the_first_time: OTHER,
    _reuses_pinned_memory_at_once: "pinned memory was overwritten while it was being copied",
    _forgets_to_download: "not finite",
    _never_grows: "working memory are too few",
    _claims_more_than_it_has: "bytes are written to 64",
    _frees_twice: "memory is freed that is not allocated",
    _frees_before_the_work_is_done: "memory is freed while it is in use",
    _copies_from_the_callers_memory: "is no address of the device, nor pinned",
    _keeps_memory_after_close: "left over: .* bytes of pinned memory",
    _keeps_graphs_after_close: "left over: .* graphs",
    _launches_graphs_of_released_contexts: "a context is released while it runs",
    _shares_working_memory_that_is_too_small: "100 bytes of working memory are too few",
    _ignores_refusals: "does not know the shapes of the outputs of unet",
}
"""What tells each mistake."""


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda each: each.__name__.strip("_"))
def test_a_mistake_is_noticed(
    bundle: Bundle, expected: list[Any], monkeypatch: pytest.MonkeyPatch, mistake: Mistake
) -> None:
    mistake(monkeypatch)
    machine = StandInMachine()
    try:
        found = _pictures(bundle, Choice(machine.backend("tensorrt"), "asked for"))
    except Exception as error:
        seen = f"{type(error).__name__}: {error}"
    else:
        gc.collect()
        if all(np.array_equal(*pair) for pair in zip(found, expected, strict=True)):
            seen = f"left over: {', '.join(machine.cuda.left_over())}"
        else:
            seen = OTHER
    assert re.search(MISTAKES[mistake], seen)
