"""Every sampler's table against diffusers' scheduler, row by row in float64."""

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from diffusers.schedulers.scheduling_utils import AysSchedules

from engines.errors import SettingError
from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.catalogue import SAMPLERS
from runtime.samplers.lookup import make_table
from runtime.samplers.stochasticity import Stochasticity
from runtime.samplers.table import Table
from tests.runtime.samplers import make_k_diffusion_golden
from tests.runtime.samplers.reference import OPTIONS, SD15, Floats, Reference, run_table

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    "ignore:__array_wrap__ must accept context:DeprecationWarning",
)

NOISE_SCHEDULE = NoiseSchedule.from_config(SD15)
STEPS = (1, 2, 3, 5, 14, 15, 20, 50)
FEW_STEPS = (1, 2, 14, 20)
SHAPE = (1, 4, 6, 5)
SPACED = ("model", "leading", "linspace", "trailing")
GIVEN = ("normal", "sgm uniform", "simple", "align your steps")
"""Schedules that diffusers does not know: it is given their sigmas."""
ALL = (*GIVEN, "karras", "exponential", "beta", *SPACED)


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
    "DPM++ 2M SDE Heun": Case(
        "DPMSolverMultistepScheduler",
        options={"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"},
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
    "LCM": Case("LCMScheduler", ("model",)),
    "TCD": Case("TCDScheduler", ("model",)),
}

IMPOSSIBLE = {
    (name, "model", 1000)
    for name in ("DPM++ 2M", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "UniPC", "DEIS", "LMS")
} | {("LCM", "model", 1000), ("TCD", "model", 1000)}
"""Here diffusers fails, or divides by a step of no length."""
ONLY_OURS = {("DDIM", "model", 1000), ("PLMS", "model", 1000)}
"""Here diffusers asks for a timestep beyond training."""

FEW = ("model", "trailing", "karras")
"""Enough of a sampler's schedules for what does not depend on them."""

RUNS = [
    (name, schedule, steps)
    for name, case in CASES.items()
    for schedule in case.schedules
    for steps in (FEW_STEPS if schedule in GIVEN else STEPS)
] + [
    (name, schedule, 1000)
    for name, case in CASES.items()
    for schedule in case.schedules
    if schedule in FEW and (name, schedule, 1000) not in ONLY_OURS
]


def pair(name: str, schedule: str, steps: int, first_step: int = 0) -> tuple[Table, Reference]:
    """Our table and diffusers' scheduler for the same run."""
    case = CASES[name]
    table = make_table(name, schedule, steps, NOISE_SCHEDULE, first_step)
    sigmas = given_sigmas(schedule, steps, case)
    reference = Reference(
        case.scheduler,
        SD15,
        case.options | (OPTIONS[schedule] if sigmas is None else {}),
        steps,
        first_step,
        case.grid_of,
        case.sliced,
        sigmas,
    )
    if name == "DEIS" and schedule not in SPACED:
        least = float(NOISE_SCHEDULE.sigmas[0])
        reference.scheduler.sigmas[-1:] = reference.scheduler.sigmas[-2:-1].clamp(max=least)
    return table, reference


def given_sigmas(schedule: str, steps: int, case: Case) -> Floats | None:
    """What diffusers is given where it has no such schedule: k-diffusion's map of timesteps.

    For one step it would take the least sigma of Karras' and the others as the highest too.
    """
    trained = NOISE_SCHEDULE.sigmas
    match schedule:
        case "normal":
            timesteps = np.linspace(999, 0, steps)
        case "sgm uniform":
            timesteps = np.linspace(999, 0, steps + 1)[:-1]
        case "simple":
            timesteps = np.array([999.0 - int(x * (1000 / steps)) for x in range(steps)])
        case "align your steps":
            return loglinear(steps)
        case "karras" | "exponential" | "beta" if steps == 1 and "Multi" not in case.scheduler:
            return trained[-1:]
        case _:
            return None
    low = np.floor(timesteps).astype(int)
    high = np.minimum(low + 1, 999)
    sigmas: Floats = trained[low] ** (low + 1 - timesteps) * trained[high] ** (timesteps - low)
    return sigmas


def loglinear(steps: int) -> Floats:
    """The published interpolation, without the last point; 0.029 is the published end."""
    published = [*AysSchedules["StableDiffusionSigmas"][:-1], 0.029]
    rising = np.linspace(0, 1, len(published))
    logs = np.interp(np.linspace(0, 1, steps + 1), rising, np.log(published[::-1]))
    falling: Floats = np.exp(logs)[::-1]
    return falling[:-1]


def few_schedules(name: str) -> list[str]:
    """Enough of a sampler's schedules for what does not depend on them."""
    return [one for one in CASES[name].schedules if one in FEW]


def curved_model(x: Floats, timestep: float) -> Floats:
    """No model, but as little linear and as dependent on the timestep as one."""
    predicted: Floats = np.tanh(1.3 * x + np.sin(timestep / 170)) + 0.2 * np.roll(x, 1, axis=-1)
    return predicted


def assert_same_run(name: str, schedule: str, steps: int, first_step: int = 0) -> None:
    table, reference = pair(name, schedule, steps, first_step)
    assert table.rows == len(reference.timesteps)
    assert_same_timesteps(table, reference)
    random = np.random.default_rng(7)
    x, *noises = random.normal(size=(table.rows + 1, *SHAPE))
    x *= table.initial_noise_scale
    wanted = reference.run(x, curved_model, noises)
    for row, (ours, theirs) in enumerate(
        zip(run_table(table, x, curved_model, noises), wanted, strict=True)
    ):
        assert_close(ours, theirs, f"row {row}", steps)


def assert_same_timesteps(table: Table, reference: Reference) -> None:
    """The last bit of a float32 logarithm, in which CPUs differ, is 7e-7 of the first timestep."""
    np.testing.assert_allclose(table.timesteps, reference.timesteps, rtol=1e-6, atol=2e-6)


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


@pytest.mark.parametrize("name", ["DDIM", "TCD"])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_eta_is_diffusers_own(name: str, eta: float) -> None:
    for steps, first_step in ((7, 0), (20, 6)):
        table = make_table(name, "model", steps, NOISE_SCHEDULE, first_step, Stochasticity(eta=eta))
        class_name = CASES[name].scheduler
        reference = Reference(class_name, SD15, {}, steps, first_step, step_options={"eta": eta})
        x, *noises = np.random.default_rng(3).normal(size=(table.rows + 1, *SHAPE))
        wanted = reference.run(x, curved_model, noises)
        for ours, theirs in zip(run_table(table, x, curved_model, noises), wanted, strict=True):
            assert_close(ours, theirs, name)


@pytest.mark.parametrize("name", ["DDIM", "PLMS"])
def test_as_many_steps_as_training_had(name: str) -> None:
    """The first timestep of `leading` is beyond training: the webui takes the last one for it."""
    table = make_table(name, "model", 1000, NOISE_SCHEDULE)
    timesteps = np.append(999, np.arange(999, 0, -1))
    np.testing.assert_array_equal(np.unique(table.timesteps), np.unique(timesteps))
    x = np.random.default_rng(3).normal(size=SHAPE)
    first, *_, end = run_table(table, x, curved_model, [])
    np.testing.assert_allclose(first, x)
    shorter = make_table(name, "model", 500, NOISE_SCHEDULE)
    *_, near = run_table(shorter, x, curved_model, [])
    np.testing.assert_allclose(end, near, atol=0.03)


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
    table = make_table(name, "model", 12, NoiseSchedule.from_config(config))
    reference = Reference(case.scheduler, config, case.options, 12)
    assert_same_timesteps(table, reference)
    x, *noises = np.random.default_rng(3).normal(size=(table.rows + 1, *SHAPE))
    wanted = reference.run(x, curved_model, noises)
    for ours, theirs in zip(run_table(table, x, curved_model, noises), wanted, strict=True):
        assert_close(ours, theirs, name)


def test_every_sampler_is_compared() -> None:
    known = CASES.keys() | {run.sampler for run in make_k_diffusion_golden.RUNS.values()}
    assert {sampler.name for sampler in SAMPLERS} == known | {"Restart"}
    for sampler in SAMPLERS:
        if sampler.name in CASES:
            assert set(sampler.schedules) == set(CASES[sampler.name].schedules)
