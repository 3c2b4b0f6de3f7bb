"""UniPC: Zhao et al. 2023, "UniPC: A Unified Predictor-Corrector Framework", arXiv:2302.04867."""

import math

import numpy as np

from runtime.samplers.levels import alpha_sigma, log_snr_step
from runtime.samplers.schedules import Grid
from runtime.samplers.table import Row, Table, Vector, basis, table_from_rows


def unipc(grid: Grid, first_step: int) -> Table:
    """UniPC-2 with B(h) = exp(h) - 1 that predicts the clean latent.

    Each call first corrects the step before with the new prediction, then predicts the next.
    The history is the corrected x of the step before and the last two predicted clean latents.

    Args:
        grid: the steps; sigmas end at 0.
        first_step: where the run starts, with no history.

    Raises:
        SettingError: two sigmas are the same.
    """
    grid.require_length("UniPC")
    x, corrected, newer, older, prediction, _ = basis(history=3)
    rows = []
    for step in range(first_step, grid.steps):
        alpha, sigma = alpha_sigma(grid.sigmas[step])
        denoised = (x - sigma * prediction) / alpha
        x_here = x
        if step > first_step:
            second_order = step - first_step > 1
            x_here = _correct(
                grid, step - 1, corrected, denoised, newer, older if second_order else None
            )
        x_next = _predict(grid, step, x_here, denoised, newer if step > first_step else None)
        state = (x_next, x_here, denoised, newer)
        rows.append(Row(grid.timesteps[step], 1.0, state, step, (alpha, sigma)))
    return table_from_rows("UniPC", grid.schedule, rows, initial_noise_scale=1.0)


def _predict(grid: Grid, step: int, x: Vector, denoised: Vector, before: Vector | None) -> Vector:
    """The step from `x` where the clean latent is `denoised`, and was `before` a step ago.

    The paper fixes the one coefficient of the predictor of second order to 1/2.
    """
    x_next = _first_order(grid, step, x, denoised)
    if before is None or grid.sigmas[step + 1] == 0:
        return x_next
    ratio = -log_snr_step(grid, step - 1) / log_snr_step(grid, step)
    return x_next - _amount(grid, step) / 2 * (before - denoised) / ratio


def _correct(
    grid: Grid, step: int, x: Vector, after: Vector, denoised: Vector, before: Vector | None
) -> Vector:
    """The same step once the clean latent at its end, `after`, is known.

    At second order the coefficients solve the paper's linear system, R a = phi / B.
    """
    x_next = _first_order(grid, step, x, denoised)
    if before is None:
        return x_next - _amount(grid, step) / 2 * (after - denoised)
    h = log_snr_step(grid, step)
    ratio = -log_snr_step(grid, step - 1) / h
    amount = math.expm1(-h)
    first = amount / -h - 1
    second = 2 * (first / -h - 1 / 2)
    system = np.array([[1.0, 1.0], [ratio, 1.0]])
    past, end = np.linalg.solve(system, np.array([first, second]) / amount)
    change = past * (before - denoised) / ratio + end * (after - denoised)
    corrected: Vector = x_next - _amount(grid, step) * change
    return corrected


def _first_order(grid: Grid, step: int, x: Vector, denoised: Vector) -> Vector:
    _, sigma = alpha_sigma(grid.sigmas[step])
    _, sigma_next = alpha_sigma(grid.sigmas[step + 1])
    x_next: Vector = sigma_next / sigma * x - _amount(grid, step) * denoised
    return x_next


def _amount(grid: Grid, step: int) -> float:
    """How much of a clean latent the step subtracts: alpha * (exp(-h) - 1)."""
    alpha_next, _ = alpha_sigma(grid.sigmas[step + 1])
    return alpha_next * math.expm1(-log_snr_step(grid, step))
