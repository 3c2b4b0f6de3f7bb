"""DPM-Solver++(2M) and its SDE: Lu et al. 2022, "DPM-Solver++", arXiv:2211.01095."""

import math

from runtime.samplers.levels import alpha_sigma, log_snr_step
from runtime.samplers.schedules import Grid
from runtime.samplers.table import Row, Table, basis, table_from_rows


def dpmpp_2m(grid: Grid, first_step: int) -> Table:
    """The multistep solver of second order that predicts the clean latent: algorithm 2.

    The history is the previous step's clean latent. The first step and the one that ends at
    sigma 0 are of first order, which there is exact: x becomes the predicted clean latent.

    Args:
        grid: the steps; sigmas end at 0.
        first_step: where the run starts, with no history.

    Raises:
        SettingError: two sigmas are the same.
    """
    return _dpmpp_2m("DPM++ 2M", grid, first_step, stochastic=False)


def dpmpp_2m_sde(grid: Grid, first_step: int) -> Table:
    """The same for the diffusion SDE, "SDE-DPM-Solver++(2M)": section 5.

    Args:
        grid: the steps; sigmas end at 0.
        first_step: where the run starts, with no history.

    Raises:
        SettingError: two sigmas are the same.
    """
    return _dpmpp_2m("DPM++ 2M SDE", grid, first_step, stochastic=True)


def _dpmpp_2m(sampler: str, grid: Grid, first_step: int, *, stochastic: bool) -> Table:
    grid.require_length(sampler)
    x, previous, prediction, noise = basis(history=1)
    rows = []
    for step in range(first_step, grid.steps):
        alpha, sigma = alpha_sigma(grid.sigmas[step])
        alpha_next, sigma_next = alpha_sigma(grid.sigmas[step + 1])
        h = log_snr_step(grid, step)
        denoised = (x - sigma * prediction) / alpha
        target = denoised
        if step > first_step and sigma_next > 0:
            ratio = log_snr_step(grid, step - 1) / h
            target = denoised + (denoised - previous) / (2 * ratio)
        if stochastic:
            x_next = (
                sigma_next / sigma * math.exp(-h) * x
                - alpha_next * math.expm1(-2 * h) * target
                + sigma_next * math.sqrt(-math.expm1(-2 * h)) * noise
            )
        else:
            x_next = sigma_next / sigma * x - alpha_next * math.expm1(-h) * target
        draws_noise = stochastic and sigma_next > 0
        state = (x_next, denoised)
        rows.append(Row(grid.timesteps[step], 1.0, state, step, (alpha, sigma), draws_noise))
    return table_from_rows(sampler, grid.schedule, rows, initial_noise_scale=1.0)
