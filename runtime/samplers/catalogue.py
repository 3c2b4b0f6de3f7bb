"""Every sampler and schedule by name: those of AUTOMATIC1111's webui and of diffusers."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from engines.errors import SettingError
from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.ddim import ddim
from runtime.samplers.dpmpp_2m import dpmpp_2m
from runtime.samplers.schedules import (
    NORMAL,
    SIGMA_SEQUENCES,
    SPACINGS,
    Grid,
    check_steps,
    integer_grid,
)
from runtime.samplers.table import Table

AUTOMATIC = "automatic"
"""The schedule name that means the sampler's own."""

_Make = Callable[[NoiseSchedule, str, int, int], Table]

_SPACED = (NORMAL, *SPACINGS)
_ALL = (*_SPACED, *SIGMA_SEQUENCES)


@dataclass(frozen=True)
class Sampler:
    """One sampler: its name, diffusers' class for it, and the schedules that it can follow.

    `automatic` is the schedule that the webui gives it when none is asked for; diffusers' class
    by itself follows the model's own spacing.
    """

    name: str
    diffusers_name: str
    automatic: str
    schedules: tuple[str, ...]
    make: _Make


def _on_grid(
    grid: Callable[[NoiseSchedule, str, int], Grid], solver: Callable[[Grid, int], Table]
) -> _Make:
    def make(noise_schedule: NoiseSchedule, schedule: str, steps: int, first_step: int) -> Table:
        return solver(grid(noise_schedule, schedule, steps), first_step)

    return make


SAMPLERS = (
    Sampler(
        "DPM++ 2M", "DPMSolverMultistepScheduler", "karras", _ALL, _on_grid(integer_grid, dpmpp_2m)
    ),
    Sampler("DDIM", "DDIMScheduler", NORMAL, _SPACED, ddim),
)

_SCHEDULE_ALIASES = {"sgm uniform": "trailing", "uniform": NORMAL}


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
    check_steps(steps, first_step)
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
        if plain == _plain(entry.diffusers_name):
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
