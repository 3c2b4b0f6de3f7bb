"""Every sampler: those of AUTOMATIC1111's webui and of diffusers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

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
from runtime.samplers.schedules import MODEL, SPACINGS, Grid, fractional_grid, integer_grid
from runtime.samplers.sigmas import SEQUENCES
from runtime.samplers.stochasticity import Stochasticity
from runtime.samplers.table import Table
from runtime.samplers.unipc import unipc

AUTOMATIC = "automatic"
"""The schedule name that means the sampler's own."""

_Make = Callable[[NoiseSchedule, str, int, int, Stochasticity], Table]
_MakeGrid = Callable[[NoiseSchedule, str, int], Grid]

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


def _without_noise(sampler: Callable[[NoiseSchedule, str, int, int], Table]) -> _Make:
    return lambda model, name, steps, first, _: sampler(model, name, steps, first)


def _on(grid: _MakeGrid, sampler: Callable[[Grid, int], Table]) -> _Make:
    return lambda model, name, steps, first, _: sampler(grid(model, name, steps), first)


def _noisy_on(grid: _MakeGrid, sampler: Callable[[Grid, int, Stochasticity], Table]) -> _Make:
    return lambda model, name, steps, first, noise: sampler(grid(model, name, steps), first, noise)


SAMPLERS = (
    Sampler(
        "DPM++ 2M",
        _on(integer_grid, dpmpp_2m),
        "karras",
        "DPMSolverMultistepScheduler",
        ("k_dpmpp_2m",),
    ),
    Sampler(
        "DPM++ 2M SDE",
        _noisy_on(integer_grid, dpmpp_2m_sde),
        "exponential",
        aliases=("k_dpmpp_2m_sde",),
        eta=1.0,
        noisy=True,
    ),
    Sampler(
        "DPM++ 2M SDE Heun",
        _noisy_on(integer_grid, partial(dpmpp_2m_sde, heun=True)),
        "exponential",
        aliases=("k_dpmpp_2m_sde_heun",),
        eta=1.0,
        noisy=True,
    ),
    Sampler(
        "DPM++ 3M SDE",
        _noisy_on(integer_grid, dpmpp_3m_sde),
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
        _on(fractional_grid, lms),
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
        _on(integer_grid, unipc),
        diffusers_name="UniPCMultistepScheduler",
    ),
    Sampler(
        "DEIS",
        _without_noise(deis),
        diffusers_name="DEISMultistepScheduler",
    ),
    Sampler("DDIM", ddim, diffusers_name="DDIMScheduler", schedules=_SPACED, eta=0.0),
    Sampler(
        "PLMS",
        _without_noise(plms),
        diffusers_name="PNDMScheduler",
        aliases=("pndm",),
        schedules=_SPACED,
    ),
    Sampler(
        "LCM",
        _without_noise(lcm),
        diffusers_name="LCMScheduler",
        aliases=("k_lcm",),
        schedules=(MODEL,),
    ),
    Sampler("TCD", tcd, diffusers_name="TCDScheduler", schedules=(MODEL,), eta=0.3),
)
