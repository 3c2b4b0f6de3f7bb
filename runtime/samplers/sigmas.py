"""Sequences of sigmas: schedules that choose amounts of noise instead of timesteps.

Each takes the trained sigmas, rising, [timesteps], and gives `steps` falling ones; samplers put
the end of the run behind them. Their names are those of AUTOMATIC1111's webui.
"""

import math
from collections.abc import Callable

import numpy as np

from runtime.arrays import Float64Array
from runtime.samplers.beta_schedule import beta_sigmas

KARRAS_RHO = 7.0

ALIGN_YOUR_STEPS = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
"""Sabour et al. 2024 (arXiv:2404.14507), optimised for Stable Diffusion 1.5 and ten steps."""


def karras(trained: Float64Array, steps: int) -> Float64Array:
    """Karras et al. 2022 (arXiv:2206.00364), equation 5, with rho = 7."""
    return karras_between(trained[-1], trained[0], steps)


def karras_between(highest: float, lowest: float, steps: int) -> Float64Array:
    """The same between two sigmas, both included."""
    high, low = highest ** (1 / KARRAS_RHO), lowest ** (1 / KARRAS_RHO)
    sigmas: Float64Array = (high + np.linspace(0, 1, steps) * (low - high)) ** KARRAS_RHO
    return sigmas


def exponential(trained: Float64Array, steps: int) -> Float64Array:
    """Sigmas whose logarithms are evenly spaced."""
    return np.exp(np.linspace(math.log(trained[-1]), math.log(trained[0]), steps))


def beta(trained: Float64Array, steps: int) -> Float64Array:
    """Sigmas at even quantiles of a beta distribution (arXiv:2407.12173)."""
    return beta_sigmas(trained[0], trained[-1], steps)


def normal(trained: Float64Array, steps: int) -> Float64Array:
    """Evenly spaced timesteps from the last of training to the first, both included."""
    return _at(trained, np.linspace(len(trained) - 1, 0, steps))


def sgm_uniform(trained: Float64Array, steps: int) -> Float64Array:
    """Evenly spaced timesteps from the last of training; the step to the first one is left out.

    Each is at most 1.5 timesteps from diffusers' trailing ones, which are rounded.
    """
    return _at(trained, np.linspace(len(trained) - 1, 0, steps + 1)[:-1])


def simple(trained: Float64Array, steps: int) -> Float64Array:
    """Every so many trained sigmas, counted from the last.

    Timesteps are rounded up where diffusers' trailing ones are rounded to the nearest.
    """
    back = np.trunc(np.arange(steps) * (len(trained) / steps)).astype(int)
    sigmas: Float64Array = trained[::-1][back]
    return sigmas


def align_your_steps(_trained: Float64Array, steps: int) -> Float64Array:
    """The published sigmas, for other numbers of steps than ten interpolated in their logarithm.

    As published the last of them is where the run would end; the samplers here go on to 0
    instead, as diffusers' own ten steps do. The webui, which keeps it and adds 0, so has for one
    step more the same sigmas and a last step from 0.029.
    """
    known = np.log(ALIGN_YOUR_STEPS)
    places = np.linspace(0, len(known) - 1, steps + 1)
    return np.exp(np.interp(places, np.arange(len(known)), known))[:-1]


DIFFUSERS_SEQUENCES: dict[str, Callable[[Float64Array, int], Float64Array]] = {
    "karras": karras,
    "exponential": exponential,
    "beta": beta,
}
"""By schedule name: those that diffusers has as well."""

SEQUENCES: dict[str, Callable[[Float64Array, int], Float64Array]] = {
    "normal": normal,
    **DIFFUSERS_SEQUENCES,
    "sgm uniform": sgm_uniform,
    "simple": simple,
    "align your steps": align_your_steps,
}
"""By schedule name: (trained sigmas, steps) -> falling sigmas."""


def _at(trained: Float64Array, timesteps: Float64Array) -> Float64Array:
    """The sigmas at fractional timesteps, linear in their logarithm."""
    return np.exp(np.interp(timesteps, np.arange(len(trained)), np.log(trained)))
