"""Samplers against k-diffusion's own runs: those that diffusers lacks, eta, churn and s_noise."""

import json
from typing import Any

import numpy as np
import pytest

from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.catalogue import SAMPLERS
from runtime.samplers.dpmpp_2m import dpmpp_2m, dpmpp_2m_sde
from runtime.samplers.dpmpp_3m_sde import dpmpp_3m_sde
from runtime.samplers.lookup import make_table
from runtime.samplers.schedules import Grid, timestep_of
from runtime.samplers.stochasticity import Stochasticity
from runtime.samplers.table import Table
from tests.runtime.samplers.make_k_diffusion_golden import PATH, RUNS, STEPS
from tests.runtime.samplers.reference import SD15, Floats, run_table

NOISE_SCHEDULE = NoiseSchedule.from_config(SD15)
GOLDEN: dict[str, Any] = json.loads(PATH.read_text())
SIGMAS = np.array(GOLDEN["sigmas"])
KNOWN = {entry.name: entry for entry in SAMPLERS}


def table_of(name: str) -> Table:
    """On the golden file's sigmas; the samplers in diffusers' scale have another grid else."""
    sampler, options = RUNS[name].sampler, dict(RUNS[name].options)
    heun = options.pop("solver_type", "") == "heun"
    stochasticity = Stochasticity(**options)
    grid = Grid("karras", np.zeros(STEPS), SIGMAS, 1.0)
    match sampler:
        case "DPM++ 2M":
            return dpmpp_2m(grid, 0)
        case "DPM++ 2M SDE" | "DPM++ 2M SDE Heun":
            return dpmpp_2m_sde(grid, 0, stochasticity, heun=heun)
        case "DPM++ 3M SDE":
            return dpmpp_3m_sde(grid, 0, stochasticity)
        case _:
            return make_table(sampler, "karras", STEPS, NOISE_SCHEDULE, 0, stochasticity)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_passes_the_same_latents(name: str) -> None:
    table, golden = table_of(name), GOLDEN["runs"][name]
    inputs: list[Floats] = []

    def model(scaled: Floats, _timestep: float) -> Floats:
        inputs.append(scaled)
        predicted: Floats = np.tanh(1.3 * scaled) + 0.2 * np.roll(scaled, 1)
        return predicted

    start = np.array(GOLDEN["start"]) * SIGMAS[0] * table.start[0, 0]
    *_, end = run_table(table, start, model, list(np.array(GOLDEN["noises"])))
    np.testing.assert_allclose(inputs, golden["calls"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(end, golden["end"], rtol=0, atol=1e-6)


def test_every_option_of_every_sampler_is_compared() -> None:
    for entry in KNOWN.values():
        names = {name for run in RUNS.values() if run.sampler == entry.name for name in run.options}
        if entry.churns:
            assert {"s_churn", "s_tmin", "s_tmax", "s_noise"} <= names
        if entry.eta == 1:
            assert "eta" in names
        if entry.noisy and entry.name != "Restart":
            assert "s_noise" in names


def test_normal_is_k_diffusions_own_schedule() -> None:
    table = make_table("Euler", "normal", STEPS, NOISE_SCHEDULE)
    np.testing.assert_allclose(table.start[:, 1], GOLDEN["normal"][:-1], rtol=1e-6)


@pytest.mark.parametrize("sampler", ["Euler", "Heun", "DPM2"])
def test_churned_rows_are_told_where_they_are(sampler: str) -> None:
    """x enters the first row before its churn, and every other one after it."""
    stochasticity = Stochasticity(s_churn=2.0)
    plain = make_table(sampler, "karras", STEPS, NOISE_SCHEDULE)
    table = make_table(sampler, "karras", STEPS, NOISE_SCHEDULE, 0, stochasticity)
    before = plain.start[:, 1]
    levels = 1 / table.input_scale**2 - 1
    first_calls = np.append(True, np.diff(plain.steps) > 0)
    raised = np.where(first_calls, before * (1 + 2 / STEPS), before)
    if sampler == "DPM2":
        raised = np.where(first_calls, raised, before * np.sqrt(1 + 2 / STEPS))
    np.testing.assert_allclose(np.sqrt(levels), raised, rtol=1e-6)
    np.testing.assert_allclose(table.start[1:, 1], raised[1:], rtol=1e-6)
    assert table.start[0, 1] == before[0]
    assert table.first_noise == pytest.approx(np.sqrt(raised[0] ** 2 - before[0] ** 2))
    wanted = [timestep_of(sigma, NOISE_SCHEDULE) for sigma in raised]
    np.testing.assert_allclose(table.timesteps[first_calls], np.array(wanted)[first_calls])
    late = make_table(sampler, "karras", STEPS, NOISE_SCHEDULE, 2, stochasticity)
    assert late.input_scale[0] == pytest.approx(
        1 / np.hypot(1, (1 + 2 / (STEPS - 2)) * late.start[0, 1])
    )


@pytest.mark.parametrize("name", ["DPM++ 2S a", "DPM++ SDE"])
def test_every_call_is_told_the_timestep_of_its_sigma(name: str) -> None:
    table = make_table(name, "karras", STEPS, NOISE_SCHEDULE)
    sigmas = table.start[:, 1]
    assert list(table.steps) == [step for step in range(STEPS) for _ in range(2)][:-1]
    np.testing.assert_allclose(table.input_scale, 1 / np.sqrt(sigmas**2 + 1))
    wanted = [timestep_of(sigma, NOISE_SCHEDULE) for sigma in sigmas]
    np.testing.assert_allclose(table.timesteps, wanted, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("name", ["DPM++ 2S a", "DPM++ SDE", "DPM++ 3M SDE"])
@pytest.mark.parametrize("first_step", [1, 4, 9])
def test_a_run_from_a_picture_is_a_run_over_what_is_left(name: str, first_step: int) -> None:
    """Its rows are those of the whole run, but for the orders that a history would allow."""
    whole = make_table(name, "karras", 10, NOISE_SCHEDULE)
    late = make_table(name, "karras", 10, NOISE_SCHEDULE, first_step)
    kept = whole.steps >= first_step
    np.testing.assert_array_equal(late.timesteps, whole.timesteps[kept])
    np.testing.assert_array_equal(late.start, whole.start[kept])
    if name == "DPM++ 3M SDE":
        assert not late.coefficients[0, 0, 1:3].any()
        kept &= whole.steps >= first_step + 2
    np.testing.assert_array_equal(
        late.coefficients[len(late.steps) - kept.sum() :], whole.coefficients[kept]
    )
