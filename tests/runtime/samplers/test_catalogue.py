"""Names of samplers and schedules, in the webui's and diffusers' spellings."""

import pytest

from engines.errors import SettingError
from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.catalogue import SAMPLERS, make_table, resolve
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
        ("DPMSolverMultistepScheduler", "automatic", "DPM++ 2M", "normal"),
        ("ddim", "automatic", "DDIM", "normal"),
        ("DDIMScheduler", "SGM Uniform", "DDIM", "trailing"),
    ],
)
def test_names(sampler: str, schedule: str, name: str, canonical: str) -> None:
    entry, resolved = resolve(sampler, schedule)
    assert (entry.name, resolved) == (name, canonical)


def test_no_two_samplers_share_a_name() -> None:
    names = [name for entry in SAMPLERS for name in (entry.name, entry.diffusers_name) if name]
    assert len({name.casefold() for name in names}) == len(names)


def test_every_sampler_follows_the_schedule_that_it_takes_by_itself() -> None:
    for entry in SAMPLERS:
        table = make_table(entry.name, "automatic", 10, NoiseSchedule.from_config(SD15))
        assert table.sampler == entry.name
        assert table.schedule == entry.automatic


def test_an_unknown_sampler_lists_those_there_are() -> None:
    with pytest.raises(SettingError, match=r"'Eular'.*DPM\+\+ 2M.*DDIM"):
        resolve("Eular", "karras")


def test_a_schedule_that_the_sampler_lacks_lists_its_own() -> None:
    with pytest.raises(SettingError, match=r"DDIM has no schedule 'karras'.*normal.*trailing"):
        resolve("DDIM", "karras")


@pytest.mark.parametrize(("steps", "first_step"), [(0, 0), (-1, 0), (1001, 0), (5, 5), (5, -1)])
def test_numbers_of_steps_that_cannot_be(steps: int, first_step: int) -> None:
    with pytest.raises(SettingError, match=r"steps? "):
        make_table("DDIM", "normal", steps, NoiseSchedule.from_config(SD15), first_step)
