"""Spacings and sequences of sigmas against diffusers."""

import numpy as np
import pytest
import scipy.stats

from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.beta_schedule import beta_sigmas
from runtime.samplers.schedules import spaced_timesteps, timestep_of
from tests.runtime.samplers.reference import SD15

NOISE_SCHEDULE = NoiseSchedule.from_config(SD15)


@pytest.mark.parametrize("steps", [1, 2, 7, 50, 1000])
def test_beta_quantiles_are_scipys(steps: int) -> None:
    wanted = scipy.stats.beta.ppf(1 - np.linspace(0, 1, steps), 0.6, 0.6)
    np.testing.assert_allclose(beta_sigmas(0, 1, steps), wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
def test_there_are_as_many_timesteps_as_asked_for(spacing: str) -> None:
    for steps in range(1, 1000):
        timesteps = spaced_timesteps(spacing, NOISE_SCHEDULE, steps, open_end=False)
        assert len(timesteps) == steps
        assert timesteps.min() >= 0
        assert timesteps.max() <= 999


def test_a_trained_sigma_has_its_own_timestep() -> None:
    for timestep in (0, 1, 500, 998, 999):
        assert timestep_of(NOISE_SCHEDULE.sigmas[timestep], NOISE_SCHEDULE) == pytest.approx(
            timestep, abs=1e-3
        )


def test_a_sigma_beyond_training_has_the_nearest_timestep() -> None:
    assert timestep_of(100.0, NOISE_SCHEDULE) == 999
    assert timestep_of(0.001, NOISE_SCHEDULE) == 0
    assert timestep_of(0.0, NOISE_SCHEDULE) == 0
