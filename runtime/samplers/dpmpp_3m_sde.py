"""DPM-Solver++(3M) for the diffusion SDE, as k-diffusion has it (arXiv:2211.01095)."""

import math

from runtime.samplers.levels import alpha_sigma, log_snr_step
from runtime.samplers.schedules import Grid
from runtime.samplers.stochasticity import DEFAULT, Stochasticity
from runtime.samplers.table import Row, Table, Vector, basis, table_from_rows


def dpmpp_3m_sde(grid: Grid, first_step: int, stochasticity: Stochasticity = DEFAULT) -> Table:
    """The multistep solver of third order that predicts the clean latent.

    The history is the last two clean latents; a run's first steps are of first and second
    order. The step that ends at sigma 0 gives the clean latent. diffusers' variant of this has
    another sign in the term of third order; this is k-diffusion's.

    Args:
        grid: the steps; sigmas end at 0.
        first_step: where the run starts, with no history.
        stochasticity: eta, by itself 1, and s_noise.

    Raises:
        SettingError: two sigmas are the same.
    """
    grid.require_length("DPM++ 3M SDE")
    eta = stochasticity.eta_or(1.0)
    x, newer, older, prediction, noise = basis(history=2)
    rows = []
    for step in range(first_step, grid.steps):
        alpha, sigma = alpha_sigma(grid.sigmas[step])
        alpha_next, sigma_next = alpha_sigma(grid.sigmas[step + 1])
        h = log_snr_step(grid, step)
        denoised = (x - sigma * prediction) / alpha
        target = -math.expm1(-h * (1 + eta)) * denoised
        kept = 0.0
        if sigma_next > 0:
            kept = sigma_next / sigma * math.exp(-h * eta)
            past = (newer, older)[: step - first_step]
            if past:
                target = target + _higher_orders(grid, step, eta, denoised, past)
        up = stochasticity.s_noise * sigma_next * math.sqrt(-math.expm1(-2 * h * eta)) if eta else 0
        x_next = kept * x + alpha_next * target + up * noise
        state, start = (x_next, denoised, newer), (alpha, sigma)
        rows.append(Row(grid.timesteps[step], 1.0, state, step, start, up > 0))
    return table_from_rows("DPM++ 3M SDE", grid.schedule, rows, initial_noise_scale=1.0)


def _higher_orders(
    grid: Grid, step: int, eta: float, denoised: Vector, past: tuple[Vector, ...]
) -> Vector:
    """What the change of the clean latent over the last one or two steps adds to the target."""
    h = log_snr_step(grid, step)
    drift = h * (1 + eta)
    phi_2 = math.expm1(-drift) / drift + 1
    phi_3 = phi_2 / drift - 1 / 2
    last = log_snr_step(grid, step - 1) / h
    slope: Vector = (denoised - past[0]) / last
    if len(past) == 1:
        return phi_2 * slope
    before = log_snr_step(grid, step - 2) / h
    curvature = (slope - (past[0] - past[1]) / before) / (last + before)
    third: Vector = phi_2 * (slope + last * curvature) - phi_3 * curvature
    return third
