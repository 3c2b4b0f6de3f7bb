"""DPM++ SDE against diffusers' DPMSolverSDEScheduler, row by row, with its noise from outside.

Its module wants the package torchsde, for the Brownian tree that it draws noise from; here that
noise is given to it, so that an empty module does in the package's place.
"""

import importlib
import sys
from types import ModuleType

import diffusers
import numpy as np
import pytest
import torch

from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.lookup import make_table
from tests.runtime.samplers.make_k_diffusion_golden import BrownianNoise
from tests.runtime.samplers.reference import OPTIONS, SD15, Reference, run_table
from tests.runtime.samplers.test_against_diffusers import (
    SHAPE,
    assert_close,
    assert_same_timesteps,
    curved_model,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
)

NAME = "DPMSolverSDEScheduler"
NOISE_SCHEDULE = NoiseSchedule.from_config(SD15)


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers' class in the place of what it has without torchsde."""
    monkeypatch.setitem(sys.modules, "torchsde", ModuleType("torchsde"))
    module = importlib.import_module("diffusers.schedulers.scheduling_dpmsolver_sde")
    monkeypatch.setattr(diffusers, NAME, getattr(module, NAME))


RUNS = [
    (schedule, *run)
    for schedule in OPTIONS
    for run in ((1, 0), (2, 0), (5, 0), (5, 4), (20, 0), (20, 7), (50, 0), (50, 49))
    if run != (1, 0) or schedule not in ("karras", "exponential", "beta")
]
"""Of one step diffusers takes the least sigma of the last three for the highest."""


@pytest.mark.usefixtures("scheduler")
@pytest.mark.parametrize(("schedule", "steps", "first_step"), RUNS)
def test_a_run_passes_the_same_latents(schedule: str, steps: int, first_step: int) -> None:
    table = make_table("DPM++ SDE", schedule, steps, NOISE_SCHEDULE, first_step)
    reference = Reference(NAME, SD15, OPTIONS[schedule], steps, first_step)
    assert table.rows == len(reference.timesteps)
    assert_same_timesteps(table, reference)
    assert table.initial_noise_scale == pytest.approx(reference.initial_noise_scale, rel=1e-6)
    x, *noises = np.random.default_rng(7).normal(size=(table.rows + 1, *SHAPE))
    x *= table.initial_noise_scale
    reference.scheduler.noise_sampler = BrownianNoise(torch.from_numpy(np.array(noises)))
    wanted = reference.run(x, curved_model, [])
    for row, (ours, theirs) in enumerate(
        zip(run_table(table, x, curved_model, noises), wanted, strict=True)
    ):
        assert_close(ours, theirs, f"row {row}", steps)
