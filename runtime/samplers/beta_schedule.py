"""The beta schedule: Lee et al. 2024, "Beta Sampling is All You Need", arXiv:2407.12173."""

import numpy as np

from runtime.arrays import Float64Array

SHAPE = 0.6
"""Both parameters of the beta distribution; it is symmetric."""
_TERMS = 60
_HALVINGS = 60


def beta_sigmas(lowest: float, highest: float, steps: int) -> Float64Array:
    """Sigmas at even quantiles of the beta distribution, falling, [steps]."""
    return lowest + _quantiles(1 - np.linspace(0, 1, steps)) * (highest - lowest)


def _quantiles(probabilities: Float64Array) -> Float64Array:
    """The inverse of the distribution function, by halving intervals on its lower half."""
    upper = probabilities > 0.5
    wanted = np.where(upper, 1 - probabilities, probabilities)
    wanted = wanted * 2 * _incomplete_beta(np.array(0.5))
    low, high = np.zeros_like(wanted), np.full_like(wanted, 0.5)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = _incomplete_beta(middle) < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.where(upper, 1 - low, low)


def _incomplete_beta(x: Float64Array) -> Float64Array:
    """The incomplete beta function for x to 1/2, by its series (DLMF 8.17.7)."""
    total, term = np.zeros_like(x), np.ones_like(x)
    for n in range(_TERMS):
        total = total + term / (SHAPE + n)
        term = term * x * (n + 1 - SHAPE) / (n + 1)
    incomplete: Float64Array = x**SHAPE * total
    return incomplete
