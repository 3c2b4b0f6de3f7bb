"""Runs that keep a part of a picture, and UNets that see the mask."""

import numpy as np
import pytest

from engines import layout
from runtime.arrays import Latents
from runtime.batches import Batch
from runtime.known import KnownLatents
from runtime.noise import TorchCpuNoise
from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.lookup import make_table
from runtime.slot import Slot
from tests.runtime.fake_unet import constant, embeddings
from tests.runtime.samplers.reference import SD15

NOISE_SCHEDULE = NoiseSchedule.from_config(SD15)
SHAPE = (4, 6, 8)
LATENTS, NOISE, START = TorchCpuNoise(5).draw((3, *SHAPE))


def _slot(
    sampler: str, known: KnownLatents | None, channels: Latents | None = None, first_step: int = 2
) -> Slot:
    table = make_table(sampler, "automatic", 5, NOISE_SCHEDULE, first_step)
    text = constant(table, [embeddings(0)], None)
    return Slot(table, START, text, 1.0, TorchCpuNoise(0), known, channels)


def _advance(slot: Slot) -> None:
    slot.read_prediction(np.sin(3 * slot.latents)[None])
    slot.advance()


@pytest.mark.parametrize("sampler", ["DDIM", "Euler a", "DPM++ 2M", "Heun"])
def test_what_is_known_has_the_noise_of_its_row(sampler: str) -> None:
    mask = np.zeros(SHAPE[1:], np.float32)
    mask[:, :4], mask[:, 4] = 1, 0.25
    keeping, free = _slot(sampler, KnownLatents(LATENTS, NOISE, mask)), _slot(sampler, None)
    while not keeping.finished:
        before = keeping.latents.copy()
        free.latents[...] = before
        _advance(free)
        _advance(keeping)
        ended = keeping.row == keeping.table.rows
        signal, noise = (1.0, 0.0) if ended else keeping.table.start[keeping.row]
        there = signal * LATENTS + noise * NOISE
        wanted = mask * free.latents + (1 - mask) * there
        np.testing.assert_allclose(keeping.latents, wanted, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(keeping.latents[..., :4], free.latents[..., :4])
    np.testing.assert_array_equal(keeping.latents[..., 5:], LATENTS[..., 5:])


def test_the_unet_sees_the_mask_beside_scaled_latents() -> None:
    channels = np.arange(5 * 6 * 8, dtype=np.float32).reshape(5, 6, 8)
    slot = _slot("Euler", None, channels)
    assert slot.sample_shape == (9, 6, 8)
    batch = Batch([slot, slot], np.dtype(np.float16))
    for row in range(2):
        batch.write_inputs()
        sample = batch.feeds(embeddings=False)[layout.SAMPLE]
        scale = np.float32(slot.table.input_scale[row])
        assert scale < 0.9
        for entry in sample:
            np.testing.assert_array_equal(entry[:4], (slot.latents * scale).astype(np.float16))
            np.testing.assert_array_equal(entry[4:], channels.astype(np.float16))
        _advance(slot)
