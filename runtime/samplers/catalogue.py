"""Every sampler and schedule by name: those of AUTOMATIC1111's webui and of diffusers."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from engines.errors import SettingError
from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.consistency import lcm, tcd
from runtime.samplers.ddim import ddim
from runtime.samplers.deis import deis
from runtime.samplers.dpm2 import dpm2, dpm2_ancestral
from runtime.samplers.dpmpp_2m import dpmpp_2m, dpmpp_2m_sde
from runtime.samplers.dpmpp_2s import dpmpp_2s_ancestral
from runtime.samplers.dpmpp_3m_sde import dpmpp_3m_sde
from runtime.samplers.dpmpp_sde import dpmpp_sde
from runtime.samplers.euler import euler, euler_ancestral
from runtime.samplers.heun import heun
from runtime.samplers.lms import lms
from runtime.samplers.plms import plms
from runtime.samplers.schedules import (
    NORMAL,
    SIGMA_SEQUENCES,
    SPACINGS,
    Grid,
    check_steps,
    fractional_grid,
    integer_grid,
)
from runtime.samplers.table import Table
from runtime.samplers.unipc import unipc

AUTOMATIC = "automatic"
"""The schedule name that means the sampler's own."""

_Make = Callable[[NoiseSchedule, str, int, int], Table]

_SPACED = (NORMAL, *SPACINGS)
_ALL = (*_SPACED, *SIGMA_SEQUENCES)


@dataclass(frozen=True)
class Sampler:
    """One sampler: its name, diffusers' class for it, and the schedules that it can follow.

    `automatic` is the schedule that the webui gives it when none is asked for; diffusers' class
    by itself follows the model's own spacing. `diffusers_name` is None where the class needs
    options to be this sampler.
    """

    name: str
    diffusers_name: str | None
    automatic: str
    schedules: tuple[str, ...]
    make: _Make


def _integer(solver: Callable[[Grid, int], Table]) -> _Make:
    return lambda noise_schedule, schedule, steps, first_step: solver(
        integer_grid(noise_schedule, schedule, steps), first_step
    )


def _fractional(solver: Callable[[Grid, int], Table]) -> _Make:
    return lambda noise_schedule, schedule, steps, first_step: solver(
        fractional_grid(noise_schedule, schedule, steps), first_step
    )


SAMPLERS = (
    Sampler("DPM++ 2M", "DPMSolverMultistepScheduler", "karras", _ALL, _integer(dpmpp_2m)),
    Sampler("DPM++ 2M SDE", None, "exponential", _ALL, _integer(dpmpp_2m_sde)),
    Sampler("Euler", "EulerDiscreteScheduler", NORMAL, _ALL, _fractional(euler)),
    Sampler(
        "Euler a", "EulerAncestralDiscreteScheduler", NORMAL, _ALL, _fractional(euler_ancestral)
    ),
    Sampler("Heun", "HeunDiscreteScheduler", NORMAL, _ALL, _fractional(heun)),
    Sampler("LMS", "LMSDiscreteScheduler", NORMAL, _ALL, _fractional(lms)),
    Sampler("DPM2", "KDPM2DiscreteScheduler", "karras", _ALL, dpm2),
    Sampler("DPM2 a", "KDPM2AncestralDiscreteScheduler", "karras", _ALL, dpm2_ancestral),
    Sampler("DPM++ 2S a", None, "karras", _ALL, dpmpp_2s_ancestral),
    Sampler("DPM++ SDE", "DPMSolverSDEScheduler", "karras", _ALL, dpmpp_sde),
    Sampler("DPM++ 3M SDE", None, "exponential", _ALL, _integer(dpmpp_3m_sde)),
    Sampler("UniPC", "UniPCMultistepScheduler", NORMAL, _ALL, _integer(unipc)),
    Sampler("DEIS", "DEISMultistepScheduler", NORMAL, _ALL, deis),
    Sampler("DDIM", "DDIMScheduler", NORMAL, _SPACED, ddim),
    Sampler("PLMS", "PNDMScheduler", NORMAL, _SPACED, plms),
    Sampler("LCM", "LCMScheduler", NORMAL, (NORMAL,), lcm),
    Sampler("TCD", "TCDScheduler", NORMAL, (NORMAL,), tcd),
)

_SCHEDULE_ALIASES = {"sgm uniform": "trailing", "simple": "trailing"}
"""Names of the webui, and the nearest that diffusers has."""


def make_table(
    sampler: str,
    schedule: str,
    steps: int,
    noise_schedule: NoiseSchedule,
    first_step: int = 0,
) -> Table:
    """The table of one run.

    Args:
        sampler: a name of the webui ("DPM++ 2M", also with the schedule behind it: "DPM++ 2M
            Karras") or of diffusers ("DPMSolverMultistepScheduler"), in any case.
        schedule: a schedule's name, or "automatic" for the one that the sampler's name means.
        steps: how many steps a whole run has.
        noise_schedule: the model's.
        first_step: the step at which the run starts; after 0 where a picture is given. The
            table holds only the rows from there on.

    Raises:
        SettingError: an unknown name, a schedule that the sampler does not have, or a number of
            steps that it cannot take.
    """
    entry, schedule = resolve(sampler, schedule)
    check_steps(steps, first_step, noise_schedule)
    return entry.make(noise_schedule, schedule, steps, first_step)


def resolve(sampler: str, schedule: str) -> tuple[Sampler, str]:
    """Find what two names mean: the sampler and the schedule's canonical name.

    Raises:
        SettingError: an unknown name, or a schedule that the sampler does not have.
    """
    entry, implied = _find_sampler(sampler)
    wanted = _plain(schedule)
    wanted = implied if wanted == AUTOMATIC else _SCHEDULE_ALIASES.get(wanted, wanted)
    if wanted not in entry.schedules:
        raise SettingError(
            f"{entry.name} has no schedule {schedule!r}; choose one of "
            f"{', '.join((AUTOMATIC, *entry.schedules))}."
        )
    return entry, wanted


def _find_sampler(name: str) -> tuple[Sampler, str]:
    """The sampler, and the schedule that the name means by itself."""
    plain = _plain(name)
    for entry in SAMPLERS:
        if plain == _plain(entry.name):
            return entry, entry.automatic
        if entry.diffusers_name and plain == _plain(entry.diffusers_name):
            return entry, NORMAL
        for schedule in entry.schedules:
            if plain == f"{_plain(entry.name)} {schedule}":
                return entry, schedule
    raise SettingError(
        f"No sampler {name!r}; choose one of {', '.join(entry.name for entry in SAMPLERS)}."
    )


def _plain(name: str) -> str:
    """Names differ by case, underscores and spaces only in spelling."""
    return re.sub(r"[\s_]+", " ", name).strip().casefold()
