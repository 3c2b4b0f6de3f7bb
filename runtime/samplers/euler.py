"""Euler's method, plain and ancestral: Karras et al. 2022, arXiv:2206.00364."""

from runtime.samplers.levels import ancestral_step, input_scale
from runtime.samplers.schedules import Grid
from runtime.samplers.table import Row, Table, basis, table_from_rows


def euler(grid: Grid, first_step: int) -> Table:
    """Algorithm 1 without its second evaluation; dx/dsigma is the predicted noise.

    Args:
        grid: the steps; sigmas end at 0.
        first_step: where the run starts.
    """
    x, prediction, _ = basis(history=0)
    rows = []
    for step in range(first_step, grid.steps):
        sigma, after = grid.sigmas[step], grid.sigmas[step + 1]
        state = (x + (after - sigma) * prediction,)
        rows.append(Row(grid.timesteps[step], input_scale(sigma), state, step, (1.0, sigma)))
    return table_from_rows("Euler", grid.schedule, rows, grid.initial_noise_scale)


def euler_ancestral(grid: Grid, first_step: int) -> Table:
    """Euler's step to a lower sigma, then fresh noise up to the schedule's.

    Args:
        grid: the steps; sigmas end at 0.
        first_step: where the run starts.
    """
    x, prediction, noise = basis(history=0)
    rows = []
    for step in range(first_step, grid.steps):
        sigma = grid.sigmas[step]
        after = grid.sigmas[step + 1]
        down, up = ancestral_step(sigma, after)
        state = (x + (down - sigma) * prediction + up * noise,)
        scale = input_scale(sigma)
        rows.append(Row(grid.timesteps[step], scale, state, step, (1.0, sigma), after > 0))
    return table_from_rows("Euler a", grid.schedule, rows, grid.initial_noise_scale)
