"""Tables: their rows, and one function that applies any of them."""

import tracemalloc

import diffusers
import numpy as np
import pytest
import torch

from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.catalogue import SAMPLERS
from runtime.samplers.lookup import make_table
from runtime.samplers.table import BLOCK, Row, advance, basis, scratch_for, table_from_rows
from tests.runtime.samplers.reference import SD15, Floats, run_table

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


def test_a_row_is_applied_to_the_whole_state() -> None:
    x, first, second, prediction, noise = basis(history=2)
    row = Row(10, 1.0, (2 * x - second + 3 * noise, prediction, first), 0, (1, 0))
    table = table_from_rows("a sampler", "normal", [row], 1.0)
    terms = np.array([[1, 2], [10, 20], [100, 200], [5, 6], [7, 8]], np.float32)
    advance(table, 0, terms, scratch_for(table))
    np.testing.assert_array_equal(terms[:3], [[-77, -172], [5, 6], [10, 20]])
    np.testing.assert_array_equal(terms[3:], [[5, 6], [7, 8]])


def test_advancing_allocates_nothing_of_a_pictures_size() -> None:
    table = make_table("DPM++ 2M", "karras", 4, NoiseSchedule.from_config(SD15))
    terms = np.ones((table.entries + 2, 4 * 128 * 128), np.float32)
    scratch = scratch_for(table)
    advance(table, 0, terms, scratch)
    tracemalloc.start()
    try:
        for row in range(1, table.rows):
            advance(table, row, terms, scratch)
        assert tracemalloc.get_traced_memory()[1] < terms[0].nbytes / 10
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "class_name", "options"),
    [
        ("DPM++ 2M Karras", "DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        ("DDIM", "DDIMScheduler", {}),
    ],
)
def test_a_float32_run_agrees_with_diffusers_as_it_is(
    name: str, class_name: str, options: dict[str, bool]
) -> None:
    """Both round differently on the way, but never by as much as a grey level shows."""
    scheduler = getattr(diffusers, class_name).from_config(SD15, **options)
    scheduler.set_timesteps(20)
    table = make_table(name, "automatic", 20, NoiseSchedule.from_config(SD15))
    sample = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    terms = np.zeros((table.entries + 2, sample.numel()), np.float32)
    terms[0] = sample.numpy().ravel()
    scratch = scratch_for(table)
    for row, timestep in enumerate(scheduler.timesteps):
        sample = scheduler.step(torch.sin(3 * sample), timestep, sample).prev_sample
        terms[-2] = np.sin(3 * terms[0])
        advance(table, row, terms, scratch)
    np.testing.assert_allclose(terms[0], sample.numpy().ravel(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", [sampler.name for sampler in SAMPLERS])
def test_float32_is_precise_enough_for_every_sampler(name: str) -> None:
    """Coefficients of opposite sign that are much larger than their sum would show here."""

    def model(x: Floats, timestep: float) -> Floats:
        predicted: Floats = np.tanh(1.3 * x + np.sin(timestep / 170)) + 0.2 * np.roll(x, 1)
        return predicted

    table = make_table(name, "automatic", 20, NoiseSchedule.from_config(SD15))
    size = BLOCK + 100
    start, *noises = np.random.default_rng(1).normal(size=(table.rows + 1, size))
    *_, wanted = run_table(table, start, model, noises)
    terms, scratch = np.zeros((table.entries + 2, size), np.float32), scratch_for(table)
    terms[0] = start
    draws = iter(noises)
    for row in range(table.rows):
        scaled = terms[0] * np.float32(table.input_scale[row])
        terms[-2] = model(scaled, table.timesteps[row])
        if table.draws_noise[row]:
            terms[-1] = next(draws)
        advance(table, row, terms, scratch)
    np.testing.assert_allclose(terms[0], wanted, rtol=0, atol=3e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("name", [sampler.name for sampler in SAMPLERS])
@pytest.mark.parametrize("first_step", [0, 3])
def test_what_the_history_was_at_first_never_reaches_x(name: str, first_step: int) -> None:
    table = make_table(name, "automatic", 12, NoiseSchedule.from_config(SD15), first_step)
    influence = np.eye(table.entries)
    for coefficients in table.coefficients:
        influence = coefficients[:, : table.entries] @ influence
        assert not influence[0, 1:].any()
