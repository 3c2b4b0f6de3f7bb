"""The samplers that diffusers lacks or has otherwise, against k-diffusion's own runs."""

import json
from typing import Any

import numpy as np
import pytest

from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.catalogue import make_table
from runtime.samplers.dpmpp_2m import dpmpp_2m_sde
from runtime.samplers.dpmpp_3m_sde import dpmpp_3m_sde
from runtime.samplers.schedules import Grid, timestep_of
from tests.runtime.samplers.make_k_diffusion_golden import PATH, SAMPLERS, STEPS
from tests.runtime.samplers.reference import SD15, Floats, run_table

NOISE_SCHEDULE = NoiseSchedule.from_config(SD15)
GOLDEN: dict[str, Any] = json.loads(PATH.read_text())


def table_of(name: str) -> Any:
    """On the golden file's sigmas; the samplers in diffusers' scale have another grid else."""
    solver = {"DPM++ 2M SDE": dpmpp_2m_sde, "DPM++ 3M SDE": dpmpp_3m_sde}.get(name)
    if solver is None:
        return make_table(name, "karras", STEPS, NOISE_SCHEDULE)
    return solver(Grid("karras", np.zeros(STEPS), np.array(GOLDEN["sigmas"]), 1.0), 0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_run_passes_the_same_latents(name: str) -> None:
    table, golden = table_of(name), GOLDEN["samplers"][name]
    inputs: list[Floats] = []

    def model(scaled: Floats, _timestep: float) -> Floats:
        inputs.append(scaled)
        predicted: Floats = np.tanh(1.3 * scaled) + 0.2 * np.roll(scaled, 1)
        return predicted

    start = np.array(GOLDEN["start"]) * GOLDEN["sigmas"][0] * table.start[0, 0]
    *_, end = run_table(table, start, model, list(np.array(GOLDEN["noises"])))
    np.testing.assert_allclose(inputs, golden["calls"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(end, golden["end"], rtol=0, atol=1e-6)


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
