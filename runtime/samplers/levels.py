"""Amounts of noise and the relations between them that several samplers share."""

import math

from runtime.samplers.schedules import Grid


def alpha_sigma(noise_to_signal: float) -> tuple[float, float]:
    """The factors of the clean latent and of unit noise whose squares sum to 1."""
    alpha = 1 / math.sqrt(noise_to_signal**2 + 1)
    return alpha, noise_to_signal * alpha


def log_snr_step(grid: Grid, step: int) -> float:
    """h: by how much log(alpha / sigma) rises over a step; infinite where it ends at sigma 0."""
    after = grid.sigmas[step + 1]
    return math.log(grid.sigmas[step] / after) if after > 0 else math.inf


def input_scale(sigma: float) -> float:
    """What brings latent + sigma * noise to the variance that the model was trained on.

    Karras et al. 2022 (arXiv:2206.00364), table 1, c_in of the variance-preserving column.
    """
    return 1 / math.sqrt(sigma**2 + 1)


def ancestral_step(sigma: float, after: float, eta: float) -> tuple[float, float]:
    """Split a step into one down to less noise and fresh noise that makes up for it.

    Returns:
        The sigma to step down to, and the sigma of the noise to add; their squares sum to the
        square of `after`. With eta 1 they are those of DDPM's ancestral sampling
        (arXiv:2006.11239); less eta is so much less noise.
    """
    up = eta * math.sqrt(after**2 * (sigma**2 - after**2) / sigma**2)
    return math.sqrt(max(after**2 - up**2, 0.0)), up
