"""Restart against its paper's algorithm, written out in float64."""

import itertools

import numpy as np
import pytest

from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.lookup import make_table
from runtime.samplers.schedules import timestep_of
from runtime.samplers.stochasticity import Stochasticity
from tests.runtime.samplers.reference import SD15, Floats, run_table

NOISE_SCHEDULE = NoiseSchedule.from_config(SD15)


def model(scaled: Floats, timestep: float) -> Floats:
    predicted: Floats = np.tanh(1.3 * scaled + np.sin(timestep / 170)) + 0.2 * np.roll(scaled, 1)
    return predicted


def slope(x: Floats, sigma: float) -> Floats:
    return model(x / np.sqrt(sigma**2 + 1), timestep_of(sigma, NOISE_SCHEDULE))


def descend(x: Floats, sigmas: Floats) -> Floats:
    """Heun's method over falling sigmas; Euler's to 0."""
    for sigma, after in itertools.pairwise(sigmas):
        first = slope(x, sigma)
        end = x + (after - sigma) * first
        x = end if after == 0 else x + (after - sigma) * (first + slope(end, after)) / 2
    return x


def karras(highest: float, lowest: float, count: int) -> Floats:
    ramp = np.linspace(highest ** (1 / 7), lowest ** (1 / 7), count)
    return ramp**7


def nearest(sigmas: Floats, level: float) -> int:
    return int(np.argmin(np.abs(sigmas - level)))


@pytest.mark.parametrize(
    ("steps", "first_step", "times", "length"),
    [(20, 0, 1, 9), (35, 0, 1, 9), (36, 0, 2, 9), (50, 0, 2, 12), (200, 0, 2, 50), (50, 25, 1, 9)],
)
def test_down_and_up_again(steps: int, first_step: int, times: int, length: int) -> None:
    stochasticity = Stochasticity(s_noise=1.05)
    table = make_table("Restart", "karras", steps, NOISE_SCHEDULE, first_step, stochasticity)
    start, *noises = np.random.default_rng(5).normal(size=(times + 1, 6))
    start = start * table.start[0, 1]
    *_, ours = run_table(table, start, model, noises)

    trained = NOISE_SCHEDULE.sigmas
    highest, lowest = karras(trained[-1], trained[0], steps)[[first_step, -1]]
    main = karras(highest, lowest, steps - first_step - times * length)
    low, high = nearest(main, 0.1), nearest(main, 2.0)
    x = descend(start, main[: low + 1])
    for noise in noises:
        x = x + 1.05 * noise * np.sqrt(main[high] ** 2 - main[low] ** 2)
        x = descend(x, karras(main[high], main[low], length + 1))
    x = descend(x, np.append(main[low:], 0.0))
    np.testing.assert_allclose(ours, x, rtol=0, atol=2e-6 * np.abs(x).max())
    assert table.draws_noise.sum() == times
    assert sorted(set(table.steps)) == list(range(first_step, steps))


@pytest.mark.parametrize(("steps", "first_step"), [(1, 0), (19, 0), (30, 11), (300, 278)])
def test_without_a_restart_it_is_heuns(steps: int, first_step: int) -> None:
    """With few steps, or where what is left of a run is below any restart."""
    restart = make_table("Restart", "karras", steps, NOISE_SCHEDULE, first_step)
    heun = make_table("Heun", "karras", steps, NOISE_SCHEDULE, first_step)
    np.testing.assert_allclose(restart.coefficients, heun.coefficients, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(restart.timesteps, heun.timesteps, rtol=1e-4)
    assert not restart.draws_noise.any()
