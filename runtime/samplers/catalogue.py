"""Every sampler and schedule by name: those of AUTOMATIC1111's webui and of diffusers."""

import math
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
from runtime.samplers.restart import restart
from runtime.samplers.schedules import (
    MODEL,
    SPACINGS,
    check_steps,
    fractional_grid,
    integer_grid,
)
from runtime.samplers.sigmas import SEQUENCES
from runtime.samplers.stochasticity import DEFAULT, Stochasticity
from runtime.samplers.table import Table
from runtime.samplers.unipc import unipc

AUTOMATIC = "automatic"
"""The schedule name that means the sampler's own."""

MAX_CHURN = 100.0
MAX_NOISE = 2.0

_Make = Callable[[NoiseSchedule, str, int, int, Stochasticity], Table]

_SPACED = (MODEL, *SPACINGS)
_ALL = (*SEQUENCES, *_SPACED)


@dataclass(frozen=True)
class Sampler:
    """One sampler: its names, its schedules, and which stochasticity it takes.

    Attributes:
        name: the webui's.
        make: makes its table.
        automatic: the schedule that the webui gives it when none is asked for; diffusers' class
            by itself follows the model's own spacing.
        diffusers_name: diffusers' class; None where it needs options to be this sampler.
        aliases: other names, such as k-diffusion's.
        schedules: those that it can follow.
        eta: its own eta; None where it takes none.
        churns: whether it takes s_churn, s_tmin, s_tmax.
        noisy: whether it takes s_noise.
    """

    name: str
    make: _Make
    automatic: str = MODEL
    diffusers_name: str | None = None
    aliases: tuple[str, ...] = ()
    schedules: tuple[str, ...] = _ALL
    eta: float | None = None
    churns: bool = False
    noisy: bool = False


SAMPLERS = (
    Sampler(
        "DPM++ 2M",
        lambda model, name, steps, first, _: dpmpp_2m(integer_grid(model, name, steps), first),
        "karras",
        "DPMSolverMultistepScheduler",
        ("k_dpmpp_2m",),
    ),
    Sampler(
        "DPM++ 2M SDE",
        lambda model, name, steps, first, noise: dpmpp_2m_sde(
            integer_grid(model, name, steps), first, noise
        ),
        "exponential",
        aliases=("k_dpmpp_2m_sde",),
        eta=1.0,
        noisy=True,
    ),
    Sampler(
        "DPM++ 2M SDE Heun",
        lambda model, name, steps, first, noise: dpmpp_2m_sde(
            integer_grid(model, name, steps), first, noise, heun=True
        ),
        "exponential",
        aliases=("k_dpmpp_2m_sde_heun",),
        eta=1.0,
        noisy=True,
    ),
    Sampler(
        "DPM++ 3M SDE",
        lambda model, name, steps, first, noise: dpmpp_3m_sde(
            integer_grid(model, name, steps), first, noise
        ),
        "exponential",
        aliases=("k_dpmpp_3m_sde",),
        eta=1.0,
        noisy=True,
    ),
    Sampler(
        "DPM++ SDE",
        dpmpp_sde,
        "karras",
        "DPMSolverSDEScheduler",
        ("k_dpmpp_sde",),
        eta=1.0,
        noisy=True,
    ),
    Sampler(
        "DPM++ 2S a",
        dpmpp_2s_ancestral,
        "karras",
        aliases=("k_dpmpp_2s_a", "dpmpp_2s_ancestral"),
        eta=1.0,
        noisy=True,
    ),
    Sampler(
        "Euler",
        euler,
        "normal",
        "EulerDiscreteScheduler",
        ("k_euler",),
        churns=True,
        noisy=True,
    ),
    Sampler(
        "Euler a",
        euler_ancestral,
        "normal",
        "EulerAncestralDiscreteScheduler",
        ("k_euler_a", "k_euler_ancestral", "euler_ancestral"),
        eta=1.0,
        noisy=True,
    ),
    Sampler("Heun", heun, "normal", "HeunDiscreteScheduler", ("k_heun",), churns=True, noisy=True),
    Sampler(
        "LMS",
        lambda model, name, steps, first, _: lms(fractional_grid(model, name, steps), first),
        "normal",
        "LMSDiscreteScheduler",
        ("k_lms",),
    ),
    Sampler(
        "DPM2",
        dpm2,
        "karras",
        "KDPM2DiscreteScheduler",
        ("k_dpm_2",),
        churns=True,
        noisy=True,
    ),
    Sampler(
        "DPM2 a",
        dpm2_ancestral,
        "karras",
        "KDPM2AncestralDiscreteScheduler",
        ("k_dpm_2_a", "k_dpm_2_ancestral", "dpm_2_ancestral"),
        eta=1.0,
        noisy=True,
    ),
    Sampler("Restart", restart, "karras", schedules=("karras",), noisy=True),
    Sampler(
        "UniPC",
        lambda model, name, steps, first, _: unipc(integer_grid(model, name, steps), first),
        diffusers_name="UniPCMultistepScheduler",
    ),
    Sampler(
        "DEIS",
        lambda model, name, steps, first, _: deis(model, name, steps, first),
        diffusers_name="DEISMultistepScheduler",
    ),
    Sampler("DDIM", ddim, diffusers_name="DDIMScheduler", schedules=_SPACED, eta=0.0),
    Sampler(
        "PLMS",
        lambda model, name, steps, first, _: plms(model, name, steps, first),
        diffusers_name="PNDMScheduler",
        aliases=("pndm",),
        schedules=_SPACED,
    ),
    Sampler(
        "LCM",
        lambda model, name, steps, first, _: lcm(model, name, steps, first),
        diffusers_name="LCMScheduler",
        aliases=("k_lcm",),
        schedules=(MODEL,),
    ),
    Sampler("TCD", tcd, diffusers_name="TCDScheduler", schedules=(MODEL,), eta=0.3),
)

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
