"""What a row costs beside the UNet's call: no new arrays, and noise that is drawn meanwhile."""

import threading
import tracemalloc
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from engines import layout
from engines.errors import BackendError
from engines.session import Array
from runtime.conditioning import Conditioning
from runtime.denoiser import Denoiser
from runtime.guidance import Guidance
from runtime.known import KnownLatents
from runtime.noise import TorchCpuNoise
from runtime.samplers.catalogue import AUTOMATIC, SAMPLERS
from runtime.samplers.lookup import make_table
from runtime.seeds import SOURCES
from runtime.slot import Slot
from tests.runtime.fake_unet import (
    NOISE_SCHEDULE,
    FakeUnet,
    constant,
    embeddings,
    finish,
    run_alone,
    slot,
)
from tests.waiting import PATIENCE

SHAPE = (4, 128, 128)
STEPS = 8
LATENTS_BYTES = 4 * 128 * 128 * 2
"""In float16, the least that an array of a picture's size takes."""


class InstantUnet(FakeUnet):
    """Answers with the same values each time, allocating nothing; told when it is called."""

    def __init__(self, dtype: str = "float32", on_call: Callable[[], object] = int) -> None:
        super().__init__(dtype)
        self._predicted = np.full((16, *SHAPE), 0.1, dtype)
        self._on_call = on_call

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        self._on_call()
        sample = feeds[layout.SAMPLE]
        height, width = sample.shape[2:]
        return {layout.OUT_SAMPLE: self._predicted[: len(sample), :, :height, :width]}


def busy_run(sampler: str, source: str, dtype: str, seed: int) -> Slot:
    """Two prompts that AND joins, one of which changes with every row; everything else is on."""
    table = make_table(sampler, AUTOMATIC, STEPS, NOISE_SCHEDULE)
    texts = [embeddings(i).astype(dtype) for i in range(4)]
    text = Conditioning(
        (1.0, 0.5),
        [(texts[row % 2], texts[2]) for row in range(table.rows)],
        [texts[3]] * table.rows,
    )
    stream = SOURCES[source](seed)
    kept = KnownLatents(stream.draw(SHAPE), stream.draw(SHAPE), np.eye(128, dtype=np.float32))
    guidance = Guidance((7.0,) * table.rows, rescale=0.5)
    run = Slot(table, stream.draw(SHAPE), text, guidance, stream, kept)
    run.watch()
    return run


def peak_of_rows(denoiser: Denoiser, rows: int) -> int:
    """The most bytes that were allocated at any time while so many rows went by."""
    tracemalloc.start()
    try:
        for _ in range(rows):
            denoiser.advance()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("sampler", [sampler.name for sampler in SAMPLERS])
def test_a_row_allocates_nothing_of_a_pictures_size(sampler: str, source: str, dtype: str) -> None:
    """Two runs in a call; random words for noise of `cpu` come in blocks of 32 KB."""
    denoiser = Denoiser(InstantUnet(dtype), max_batch=8)
    for seed in range(2):
        denoiser.add(busy_run(sampler, source, dtype, seed))
    denoiser.advance()
    assert peak_of_rows(denoiser, STEPS - 2) < LATENTS_BYTES / 3
    assert len(denoiser.slots) == 2


def test_a_run_of_several_calls_allocates_nothing_either() -> None:
    denoiser = Denoiser(InstantUnet("float16"), max_batch=2)
    denoiser.add(busy_run("Euler a", "nv", "float16", 0))
    denoiser.advance()
    assert peak_of_rows(denoiser, STEPS - 2) < LATENTS_BYTES / 3


class Announced:
    """A stream that tells when it has been drawn from."""

    def __init__(self) -> None:
        self._stream = TorchCpuNoise(3)
        self.drawn = threading.Event()

    def draw_into(self, out: NDArray[np.float32]) -> None:
        self._stream.draw_into(out)
        self.drawn.set()


def test_noise_is_drawn_while_the_unet_runs() -> None:
    """The call does not end before there is noise; the noise is the row's own."""
    noise = Announced()
    table = make_table("Euler a", AUTOMATIC, 4, NOISE_SCHEDULE)
    met: list[bool] = []

    def wait() -> None:
        met.append(noise.drawn.wait(PATIENCE if table.draws_noise[len(met)] else 0))
        noise.drawn.clear()

    text = constant(table, [embeddings(0)], None)
    start = np.zeros(SHAPE, np.float32)
    denoiser = Denoiser(InstantUnet(on_call=wait), max_batch=2)
    denoiser.add(Slot(table, start, text, 1.0, noise))
    (watched,) = finish(denoiser)
    assert met == [*table.draws_noise], "the last row draws none"
    alone = Denoiser(InstantUnet(), max_batch=2)
    alone.add(Slot(table, start, text, 1.0, TorchCpuNoise(3)))
    np.testing.assert_array_equal(watched.latents, finish(alone)[0].latents)


def test_a_row_that_is_tried_again_keeps_its_noise() -> None:
    """The engine fails at the second row, whose noise was drawn meanwhile."""
    unet = FakeUnet()
    denoiser = Denoiser(unet, max_batch=2)
    run = slot(seed=1, sampler="Euler a")
    denoiser.add(run)
    denoiser.advance()
    unet.poisoned = float(run.table.timesteps[1])
    with pytest.raises(BackendError):
        denoiser.advance()
    unet.poisoned = None
    finish(denoiser)
    np.testing.assert_array_equal(run.latents, run_alone(seed=1, sampler="Euler a"))


def test_the_thread_that_draws_ends_with_the_denoiser() -> None:
    before = set(threading.enumerate())
    denoiser = Denoiser(FakeUnet(), max_batch=2)
    denoiser.add(slot(sampler="Euler a"))
    finish(denoiser)
    (drawing,) = set(threading.enumerate()) - before
    denoiser.close()
    assert not drawing.is_alive()
