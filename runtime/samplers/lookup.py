"""Samplers and schedules by name, as the webui, k-diffusion and diffusers write them."""

import math
import re
from dataclasses import replace

from engines.errors import SettingError
from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.catalogue import AUTOMATIC, SAMPLERS, Sampler
from runtime.samplers.schedules import MODEL, check_steps
from runtime.samplers.stochasticity import DEFAULT, Stochasticity
from runtime.samplers.table import Table

MAX_CHURN = 100.0
MAX_NOISE = 2.0

_SCHEDULE_ALIASES = {"uniform": "normal", "ays": "align your steps", "sgmuniform": "sgm uniform"}


def make_table(
    sampler: str,
    schedule: str,
    steps: int,
    noise_schedule: NoiseSchedule,
    first_step: int = 0,
    stochasticity: Stochasticity = DEFAULT,
) -> Table:
    """The table of one run.

    Args:
        sampler: a name of the webui ("DPM++ 2M", also with the schedule behind it: "DPM++ 2M
            Karras"), of k-diffusion ("k_dpmpp_2m") or of diffusers
            ("DPMSolverMultistepScheduler"), in any case.
        schedule: a schedule's name, or "automatic" for the one that the sampler's name means.
        steps: how many steps a whole run has.
        noise_schedule: the model's.
        first_step: the step at which the run starts; after 0 where a picture is given. The
            table holds only the rows from there on.
        stochasticity: how much fresh noise there is, where the sampler takes any.

    Raises:
        SettingError: an unknown name, a schedule that the sampler does not have, a number of
            steps that it cannot take, or stochasticity that it does not take.
    """
    entry, schedule = resolve(sampler, schedule)
    check_steps(steps, first_step, noise_schedule)
    faults = stochasticity_faults(entry, stochasticity)
    if faults:
        raise SettingError("; ".join(faults) + ".")
    return entry.make(noise_schedule, schedule, steps, first_step, stochasticity)


def resolve(sampler: str, schedule: str) -> tuple[Sampler, str]:
    """Find what two names mean: the sampler and the schedule's canonical name.

    "Normal", as the webui has it for every sampler, is a sampler's own schedule where there is no
    such sequence of sigmas for it.

    Raises:
        SettingError: an unknown name, or a schedule that the sampler does not have.
    """
    entry, implied = _find_sampler(sampler)
    wanted = _words(schedule)
    wanted = implied if wanted == AUTOMATIC else _SCHEDULE_ALIASES.get(wanted, wanted)
    if wanted == "normal" and wanted not in entry.schedules:
        wanted = entry.automatic
    if wanted not in entry.schedules:
        raise SettingError(
            f"{entry.name} has no schedule {schedule!r}; choose one of "
            f"{', '.join((AUTOMATIC, *entry.schedules))}."
        )
    return entry, wanted


def stochasticity_faults(entry: Sampler, stochasticity: Stochasticity) -> list[str]:
    """What is wrong with a choice of stochasticity for this sampler."""
    faults = []
    eta, s_churn, s_noise = stochasticity.eta, stochasticity.s_churn, stochasticity.s_noise
    s_tmin, s_tmax = stochasticity.s_tmin, stochasticity.s_tmax
    if eta is not None and not 0 <= eta <= 1:
        faults.append(f"eta {eta:g} is not possible: choose 0 to 1")
    elif eta is not None and entry.eta is None:
        faults.append(f"{entry.name} takes no eta: leave it out")
    if not 0 <= s_churn <= MAX_CHURN:
        faults.append(f"s_churn {s_churn:g} is not possible: choose 0 to {MAX_CHURN:g}")
    elif s_churn and not entry.churns:
        faults.append(f"{entry.name} takes no s_churn: leave it out")
    if not 0 <= s_tmin < math.inf or (s_tmax is not None and not s_tmax >= s_tmin):
        faults.append(f"there is no churn between sigmas s_tmin {s_tmin:g} and s_tmax {s_tmax}")
    elif (s_tmin or s_tmax is not None) and not s_churn:
        faults.append("s_tmin and s_tmax limit s_churn: give that too")
    if not 0 < s_noise <= MAX_NOISE:
        faults.append(f"s_noise {s_noise:g} is not possible: choose more than 0, to {MAX_NOISE:g}")
    elif s_noise != 1 and not entry.noisy:
        faults.append(f"{entry.name} takes no s_noise: leave it out")
    return faults


def taken_by(sampler: str, stochasticity: Stochasticity) -> Stochasticity:
    """What a sampler takes of a choice of stochasticity; the rest as by default.

    Raises:
        SettingError: an unknown name.
    """
    entry, _ = _find_sampler(sampler)
    taken = DEFAULT
    if entry.eta is not None:
        taken = replace(taken, eta=stochasticity.eta)
    if entry.churns:
        s_tmin, s_tmax = stochasticity.s_tmin, stochasticity.s_tmax
        taken = replace(taken, s_churn=stochasticity.s_churn, s_tmin=s_tmin, s_tmax=s_tmax)
    return replace(taken, s_noise=stochasticity.s_noise) if entry.noisy else taken


def _find_sampler(name: str) -> tuple[Sampler, str]:
    """The sampler, and the schedule that the name means by itself."""
    plain = _letters(name)
    for entry in SAMPLERS:
        names = {_letters(known) for known in (entry.name, *entry.aliases)}
        if plain in names:
            return entry, entry.automatic
        if entry.diffusers_name and plain == _letters(entry.diffusers_name):
            return entry, MODEL
        for schedule in entry.schedules:
            if any(plain == known + _letters(schedule) for known in names):
                return entry, schedule
    raise SettingError(
        f"No sampler {name!r}; choose one of {', '.join(entry.name for entry in SAMPLERS)}."
    )


def _words(name: str) -> str:
    """Names differ by case, underscores and spaces only in spelling."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _letters(name: str) -> str:
    """A sampler's name without what its spellings differ in: "DPM++ 2M" is "dpmpp_2m"."""
    return _words(name).replace(" ", "").replace("++", "pp")
