"""DPM-Solver++(2M): Lu et al. 2022, "DPM-Solver++", arXiv:2211.01095, algorithm 2."""

import math

from runtime.samplers.schedules import Grid
from runtime.samplers.table import Row, Table, basis, table_from_rows


def dpmpp_2m(grid: Grid, first_step: int) -> Table:
    """The multistep solver of second order (midpoint) that predicts the clean latent.

    The history is the previous step's clean latent. The first step and the one that ends at
    sigma 0 are of first order, which there is exact: x becomes the predicted clean latent.

    Args:
        grid: the steps; sigmas end at 0.
        first_step: where the run starts, with no history.

    Raises:
        SettingError: two sigmas are the same.
    """
    grid.require_length("DPM++ 2M")
    x, previous, prediction, _ = basis(history=1)
    rows = []
    for step in range(first_step, grid.steps):
        alpha, sigma = alpha_sigma(grid.sigmas[step])
        alpha_next, sigma_next = alpha_sigma(grid.sigmas[step + 1])
        h = log_snr_step(grid, step)
        denoised = (x - sigma * prediction) / alpha
        target = denoised
        if step > first_step and grid.sigmas[step + 1] > 0:
            ratio = log_snr_step(grid, step - 1) / h
            target = denoised + (denoised - previous) / (2 * ratio)
        x_next = sigma_next / sigma * x - alpha_next * math.expm1(-h) * target
        start = (alpha, sigma)
        rows.append(Row(grid.timesteps[step], 1.0, (x_next, denoised), step, start))
    return table_from_rows("DPM++ 2M", grid.schedule, rows, initial_noise_scale=1.0)


def alpha_sigma(noise_to_signal: float) -> tuple[float, float]:
    """The factors of the clean latent and of unit noise whose squares sum to 1."""
    alpha = 1 / math.sqrt(noise_to_signal**2 + 1)
    return alpha, noise_to_signal * alpha


def log_snr_step(grid: Grid, step: int) -> float:
    """h: by how much log(alpha / sigma) rises over a step; infinite where it ends at sigma 0."""
    after = grid.sigmas[step + 1]
    return math.log(grid.sigmas[step] / after) if after > 0 else math.inf
