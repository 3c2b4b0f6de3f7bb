"""Every sampler's table against diffusers' scheduler, row by row in float64."""

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from engines.errors import SettingError
from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.catalogue import SAMPLERS, make_table
from runtime.samplers.table import Table
from tests.runtime.samplers import make_k_diffusion_golden
from tests.runtime.samplers.reference import OPTIONS, SD15, Floats, Reference, run_table

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    "ignore:__array_wrap__ must accept context:DeprecationWarning",
)

STEPS = (1, 2, 3, 5, 14, 15, 20, 50)
SHAPE = (1, 4, 6, 5)
SPACED = ("normal", "leading", "linspace", "trailing")
ALL = (*SPACED, "karras", "exponential", "beta")


@dataclass(frozen=True)
class Case:
    """What diffusers calls one of our samplers, and what it can be compared in."""

    scheduler: str
    schedules: tuple[str, ...] = ALL
    options: dict[str, Any] = field(default_factory=dict)
    grid_of: str | None = None
    sliced: bool = False


CASES = {
    "DPM++ 2M": Case("DPMSolverMultistepScheduler"),
    "DPM++ 2M SDE": Case(
        "DPMSolverMultistepScheduler", options={"algorithm_type": "sde-dpmsolver++"}
    ),
    "Euler": Case("EulerDiscreteScheduler"),
    "Euler a": Case("EulerAncestralDiscreteScheduler", grid_of="EulerDiscreteScheduler"),
    "Heun": Case("HeunDiscreteScheduler"),
    "LMS": Case("LMSDiscreteScheduler", sliced=True),
    "DPM2": Case("KDPM2DiscreteScheduler"),
    "DPM2 a": Case("KDPM2AncestralDiscreteScheduler"),
    "UniPC": Case("UniPCMultistepScheduler"),
    "DEIS": Case("DEISMultistepScheduler"),
    "DDIM": Case("DDIMScheduler", SPACED),
    "PLMS": Case("PNDMScheduler", SPACED),
    "LCM": Case("LCMScheduler", ("normal",)),
    "TCD": Case("TCDScheduler", ("normal",)),
}

IMPOSSIBLE = {
    (name, "normal", 1000)
    for name in ("DPM++ 2M", "DPM++ 2M SDE", "UniPC", "DEIS", "DDIM", "PLMS", "LMS", "LCM", "TCD")
}
"""Here diffusers fails, or divides by a step of no length."""

RUNS = [
    (name, schedule, steps)
    for name, case in CASES.items()
    for schedule in case.schedules
    for steps in STEPS
] + [
    (name, schedule, 1000)
    for name, case in CASES.items()
    for schedule in case.schedules
    if schedule in ("normal", "trailing", "karras")
]


def pair(name: str, schedule: str, steps: int, first_step: int = 0) -> tuple[Table, Reference]:
    """Our table and diffusers' scheduler for the same run."""
    case = CASES[name]
    table = make_table(name, schedule, steps, NoiseSchedule.from_config(SD15), first_step)
    reference = Reference(
        case.scheduler,
        SD15,
        case.options | OPTIONS[schedule],
        steps,
        first_step,
        case.grid_of,
        case.sliced,
    )
    return table, reference


def few_schedules(name: str) -> list[str]:
    """Enough of a sampler's schedules for what does not depend on them."""
    return [one for one in CASES[name].schedules if one in ("normal", "trailing", "karras")]


def curved_model(x: Floats, timestep: float) -> Floats:
    """No model, but as little linear and as dependent on the timestep as one."""
    predicted: Floats = np.tanh(1.3 * x + np.sin(timestep / 170)) + 0.2 * np.roll(x, 1, axis=-1)
    return predicted


def assert_same_run(name: str, schedule: str, steps: int, first_step: int = 0) -> None:
    table, reference = pair(name, schedule, steps, first_step)
    assert table.rows == len(reference.timesteps)
    np.testing.assert_allclose(table.timesteps, reference.timesteps, rtol=1e-6, atol=0)
    random = np.random.default_rng(7)
    x, *noises = random.normal(size=(table.rows + 1, *SHAPE))
    x *= table.initial_noise_scale
    wanted = reference.run(x, curved_model, noises)
    for row, (ours, theirs) in enumerate(
        zip(run_table(table, x, curved_model, noises), wanted, strict=True)
    ):
        assert_close(ours, theirs, f"row {row}", steps)


def assert_close(ours: Floats, theirs: Floats, where: str, steps: int = 20) -> None:
    """To what the last bits of sigmas leave, which weigh more the closer the steps lie."""
    tolerance = (1e-4 if steps > 50 else 2e-6) * max(1.0, np.abs(theirs).max())
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance, err_msg=where)


@pytest.mark.parametrize(("name", "schedule", "steps"), RUNS)
def test_a_run_passes_the_same_latents(name: str, schedule: str, steps: int) -> None:
    if (name, schedule, steps) in IMPOSSIBLE:
        with pytest.raises(SettingError, match=f"{steps} steps"):
            pair(name, schedule, steps)
        return
    assert_same_run(name, schedule, steps)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("steps", "first_step"), [(5, 1), (5, 4), (14, 12), (20, 7), (50, 49)])
def test_a_run_from_a_picture_starts_without_history(
    name: str, steps: int, first_step: int
) -> None:
    for schedule in few_schedules(name):
        assert_same_run(name, schedule, steps, first_step)


@pytest.mark.parametrize("name", CASES)
def test_every_coefficient(name: str) -> None:
    """One axis for the start, one for each prediction, one for each noise."""
    for schedule in few_schedules(name):
        table, reference = pair(name, schedule, 20)
        size = 2 * table.rows + 1
        x, *others = np.eye(size).reshape(size, 1, 1, 1, size)
        predictions, noises = others[: table.rows], others[table.rows :]

        ours = run_table(table, x, of_list(predictions), noises)
        theirs = reference.run(x, of_list(predictions), noises)
        for row, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_close(one, other, f"row {row}")


def of_list(predictions: list[Floats]) -> Any:
    remaining = iter(predictions)
    return lambda _x, _timestep: next(remaining)


@pytest.mark.parametrize("name", CASES)
def test_starts_and_noise_scale(name: str) -> None:
    for schedule, first_step in itertools.product(few_schedules(name), (0, 3, 7)):
        table, reference = pair(name, schedule, 8, first_step)
        np.testing.assert_allclose(table.start[0], reference.start(), rtol=1e-6)
        assert table.initial_noise_scale == pytest.approx(reference.initial_noise_scale, rel=1e-6)
        assert table.steps[0] == first_step
        assert table.steps[-1] == 7


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    "change",
    [
        {"timestep_spacing": None, "set_alpha_to_one": None},
        {"beta_schedule": "linear", "beta_end": 0.02},
        {"num_train_timesteps": 500, "steps_offset": 0},
    ],
    ids=lambda change: ",".join(change),
)
def test_other_configurations(name: str, change: dict[str, Any]) -> None:
    """A None leaves the key out, as the configuration of 2022 does."""
    config = {key: value for key, value in (SD15 | change).items() if value is not None}
    case = CASES[name]
    table = make_table(name, "normal", 12, NoiseSchedule.from_config(config))
    reference = Reference(case.scheduler, config, case.options, 12)
    np.testing.assert_allclose(table.timesteps, reference.timesteps, rtol=1e-6, atol=0)
    x, *noises = np.random.default_rng(3).normal(size=(table.rows + 1, *SHAPE))
    wanted = reference.run(x, curved_model, noises)
    for ours, theirs in zip(run_table(table, x, curved_model, noises), wanted, strict=True):
        assert_close(ours, theirs, name)


def test_every_sampler_is_compared() -> None:
    known = CASES.keys() | make_k_diffusion_golden.SAMPLERS.keys()
    assert {sampler.name for sampler in SAMPLERS} == known
    for sampler in SAMPLERS:
        if sampler.name in CASES:
            assert set(sampler.schedules) == set(CASES[sampler.name].schedules)
