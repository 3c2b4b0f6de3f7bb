"""Names of samplers and schedules, in the webui's and diffusers' spellings."""

import itertools

import numpy as np
import pytest

from engines.errors import SettingError
from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.catalogue import SAMPLERS
from runtime.samplers.lookup import make_table, resolve
from runtime.samplers.stochasticity import Stochasticity
from tests.runtime.samplers.reference import SD15


@pytest.mark.parametrize(
    ("sampler", "schedule", "name", "canonical"),
    [
        ("DPM++ 2M", "karras", "DPM++ 2M", "karras"),
        ("dpm++ 2m", "Karras", "DPM++ 2M", "karras"),
        ("DPM++ 2M Karras", "automatic", "DPM++ 2M", "karras"),
        ("dpm++_2m_exponential", "Automatic", "DPM++ 2M", "exponential"),
        ("DPM++ 2M Karras", "normal", "DPM++ 2M", "normal"),
        ("DPM++ 2M", "automatic", "DPM++ 2M", "karras"),
        ("DPMSolverMultistepScheduler", "automatic", "DPM++ 2M", "model"),
        ("ddim", "automatic", "DDIM", "model"),
        ("DDIM", "Normal", "DDIM", "model"),
        ("DDIMScheduler", "trailing", "DDIM", "trailing"),
        ("euler a", "automatic", "Euler a", "normal"),
        ("Euler a Karras", "automatic", "Euler a", "karras"),
        ("euler_ancestral", "sgm_uniform", "Euler a", "sgm uniform"),
        ("k_euler_a", "SGM Uniform", "Euler a", "sgm uniform"),
        ("EULER", "Uniform", "Euler", "normal"),
        ("k_euler", "Simple", "Euler", "simple"),
        ("EulerDiscreteScheduler", "automatic", "Euler", "model"),
        ("eulerdiscretescheduler", "normal", "Euler", "normal"),
        ("k_lms", "Align Your Steps", "LMS", "align your steps"),
        ("heun", "ays", "Heun", "align your steps"),
        ("dpm2 a", "automatic", "DPM2 a", "karras"),
        ("DPM2 a Karras", "automatic", "DPM2 a", "karras"),
        ("k_dpm_2", "beta", "DPM2", "beta"),
        ("k_dpm_2_a", "automatic", "DPM2 a", "karras"),
        ("DPM++ 2S a Karras", "automatic", "DPM++ 2S a", "karras"),
        ("k_dpmpp_2s_a", "automatic", "DPM++ 2S a", "karras"),
        ("dpmpp_2s_ancestral", "automatic", "DPM++ 2S a", "karras"),
        ("dpm++ 2m sde", "automatic", "DPM++ 2M SDE", "exponential"),
        ("DPM++ 2M SDE Karras", "automatic", "DPM++ 2M SDE", "karras"),
        ("DPM++ 2M SDE Heun", "automatic", "DPM++ 2M SDE Heun", "exponential"),
        ("DPM++ 2M SDE Heun Karras", "automatic", "DPM++ 2M SDE Heun", "karras"),
        ("k_dpmpp_sde", "automatic", "DPM++ SDE", "karras"),
        ("DPM++ 3M SDE Exponential", "automatic", "DPM++ 3M SDE", "exponential"),
        ("unipc", "automatic", "UniPC", "model"),
        ("uni_pc", "SGM Uniform", "UniPC", "sgm uniform"),
        ("UniPCMultistepScheduler", "automatic", "UniPC", "model"),
        ("pndm", "automatic", "PLMS", "model"),
        ("restart", "automatic", "Restart", "karras"),
        ("k_lcm", "automatic", "LCM", "model"),
    ],
)
def test_names(sampler: str, schedule: str, name: str, canonical: str) -> None:
    entry, resolved = resolve(sampler, schedule)
    assert (entry.name, resolved) == (name, canonical)


def test_no_name_means_two_samplers() -> None:
    """With a schedule behind it or not."""
    meanings: dict[str, str] = {}
    for entry in SAMPLERS:
        for known in (entry.name, *entry.aliases):
            for schedule in ("", *entry.schedules):
                name = f"{known} {schedule}".strip()
                assert resolve(name, "automatic")[0] is entry, name
                key = name.replace(" ", "").replace("_", "").replace("++", "pp").casefold()
                assert meanings.setdefault(key, entry.name) == entry.name


def test_every_sampler_follows_the_schedule_that_it_takes_by_itself() -> None:
    for entry in SAMPLERS:
        table = make_table(entry.name, "automatic", 10, NoiseSchedule.from_config(SD15))
        assert table.sampler == entry.name
        assert table.schedule == entry.automatic


def test_an_unknown_sampler_lists_those_there_are() -> None:
    with pytest.raises(SettingError, match=r"'Eular'.*DPM\+\+ 2M.*DDIM"):
        resolve("Eular", "karras")


def test_a_schedule_that_the_sampler_lacks_lists_its_own() -> None:
    with pytest.raises(SettingError, match=r"DDIM has no schedule 'karras'.*model.*trailing"):
        resolve("DDIM", "karras")


@pytest.mark.parametrize(("steps", "first_step"), [(0, 0), (-1, 0), (1001, 0), (5, 5), (5, -1)])
def test_numbers_of_steps_that_cannot_be(steps: int, first_step: int) -> None:
    with pytest.raises(SettingError, match=r"steps? "):
        make_table("DDIM", "normal", steps, NoiseSchedule.from_config(SD15), first_step)


@pytest.mark.parametrize(
    ("sampler", "stochasticity", "message"),
    [
        ("DPM++ 2M", Stochasticity(eta=0.5), r"DPM\+\+ 2M takes no eta"),
        ("Euler a", Stochasticity(eta=1.5), "eta 1.5 is not possible: choose 0 to 1"),
        ("Euler a", Stochasticity(eta=float("nan")), "eta nan is not possible"),
        ("Euler a", Stochasticity(s_churn=1.0), "Euler a takes no s_churn"),
        ("Euler", Stochasticity(s_churn=-1.0), "s_churn -1 is not possible"),
        ("Euler", Stochasticity(s_churn=1.0, s_tmin=3, s_tmax=1), "no churn between"),
        ("Euler", Stochasticity(s_tmin=1.0), "limit s_churn"),
        ("Euler", Stochasticity(s_noise=0.0), "s_noise 0 is not possible"),
        ("DDIM", Stochasticity(s_noise=1.1), "DDIM takes no s_noise"),
        ("LMS", Stochasticity(0.5, 1.0, s_noise=1.1), "no eta.*no s_churn.*no s_noise"),
    ],
)
def test_stochasticity_that_cannot_be(
    sampler: str, stochasticity: Stochasticity, message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        make_table(sampler, "automatic", 5, NoiseSchedule.from_config(SD15), 0, stochasticity)


@pytest.mark.parametrize("name", [entry.name for entry in SAMPLERS])
def test_what_a_sampler_takes_changes_its_table(name: str) -> None:
    (entry,) = (each for each in SAMPLERS if each.name == name)
    noise_schedule = NoiseSchedule.from_config(SD15)
    choices = [Stochasticity(eta=0.7)] * (entry.eta is not None)
    choices += [Stochasticity(s_churn=3.0)] * entry.churns
    if entry.noisy:
        choices.append(Stochasticity(s_churn=3.0 if entry.churns else 0.0, s_noise=1.1))
    tables = [
        make_table(name, "automatic", 40, noise_schedule, 0, choice)
        for choice in (Stochasticity(), *choices)
    ]
    if entry.eta is not None:
        own = Stochasticity(eta=entry.eta)
        explicit = make_table(name, "automatic", 40, noise_schedule, 0, own)
        np.testing.assert_array_equal(explicit.coefficients, tables[0].coefficients)
    for one, other in itertools.combinations(tables, 2):
        assert not np.array_equal(one.coefficients, other.coefficients)


@pytest.mark.parametrize("name", [entry.name for entry in SAMPLERS])
def test_any_number_of_steps_and_any_first_one(name: str) -> None:
    noise_schedule = NoiseSchedule.from_config(SD15)
    most = {"LCM": 50, "TCD": 50, "UniPC": 998, "DEIS": 998}.get(name, 1000)
    for steps in (1, 2, 10, 49, 999, most):
        if steps <= most:
            table = make_table(name, "automatic", steps, noise_schedule)
            assert np.isfinite(table.coefficients).all()
    if most == 998:
        unspaced = NoiseSchedule.from_config(SD15 | {"timestep_spacing": "linspace"})
        assert np.isfinite(make_table(name, "automatic", 999, unspaced).coefficients).all()
    for first_step in range(25):
        table = make_table(name, "automatic", 25, noise_schedule, first_step)
        assert np.isfinite(table.coefficients).all()
        assert sorted(set(table.steps)) == list(range(first_step, 25))
        assert len(table.start) == table.rows
