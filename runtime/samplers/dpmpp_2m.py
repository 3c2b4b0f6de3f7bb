"""DPM-Solver++(2M) and its SDE: Lu et al. 2022, "DPM-Solver++", arXiv:2211.01095."""

import math

from runtime.samplers.levels import alpha_sigma, log_snr_step
from runtime.samplers.schedules import Grid
from runtime.samplers.stochasticity import DEFAULT, Stochasticity
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
    grid.require_length("DPM++ 2M")
    x, previous, prediction, _ = basis(history=1)
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
        x_next = sigma_next / sigma * x - alpha_next * math.expm1(-h) * target
        rows.append(Row(grid.timesteps[step], 1.0, (x_next, denoised), step, (alpha, sigma)))
    return table_from_rows("DPM++ 2M", grid.schedule, rows, initial_noise_scale=1.0)


def dpmpp_2m_sde(
    grid: Grid, first_step: int, stochasticity: Stochasticity = DEFAULT, *, heun: bool = False
) -> Table:
    """The same for the diffusion SDE, "SDE-DPM-Solver++(2M)": section 5, eta as k-diffusion's.

    Args:
        grid: the steps; sigmas end at 0.
        first_step: where the run starts, with no history.
        stochasticity: eta, by itself 1, and s_noise.
        heun: weigh the second order as Heun's method does, not as the midpoint method.

    Raises:
        SettingError: two sigmas are the same.
    """
    name = "DPM++ 2M SDE Heun" if heun else "DPM++ 2M SDE"
    grid.require_length(name)
    eta = stochasticity.eta_or(1.0)
    x, previous, prediction, noise = basis(history=1)
    rows = []
    for step in range(first_step, grid.steps):
        alpha, sigma = alpha_sigma(grid.sigmas[step])
        alpha_next, sigma_next = alpha_sigma(grid.sigmas[step + 1])
        h = log_snr_step(grid, step)
        drift = h * (1 + eta)
        denoised = (x - sigma * prediction) / alpha
        x_next = sigma_next / sigma * math.exp(-h * eta) * x if sigma_next > 0 else 0 * x
        x_next = x_next - alpha_next * math.expm1(-drift) * denoised
        if step > first_step and sigma_next > 0:
            change = (denoised - previous) * h / log_snr_step(grid, step - 1)
            weight = math.expm1(-drift) / drift + 1 if heun else -math.expm1(-drift) / 2
            x_next = x_next + alpha_next * weight * change
        up = stochasticity.s_noise * sigma_next * math.sqrt(-math.expm1(-2 * h * eta)) if eta else 0
        state, start = (x_next + up * noise, denoised), (alpha, sigma)
        rows.append(Row(grid.timesteps[step], 1.0, state, step, start, up > 0))
    return table_from_rows(name, grid.schedule, rows, initial_noise_scale=1.0)
