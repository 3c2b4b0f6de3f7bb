"""Heun's method: Karras et al. 2022, arXiv:2206.00364, algorithm 1."""

from runtime.samplers.levels import input_scale
from runtime.samplers.schedules import Grid
from runtime.samplers.table import Row, Table, basis, table_from_rows


def heun(grid: Grid, first_step: int) -> Table:
    """Two calls a step: Euler's step, then half of it and half of one by the slope at its end.

    The history is the start of the step, advanced by half of the first slope. The step that ends
    at sigma 0 has no second call.

    Args:
        grid: the steps; sigmas end at 0.
        first_step: where the run starts.
    """
    x, midway, prediction, _ = basis(history=1)
    rows = []
    for step in range(first_step, grid.steps):
        sigma, after = grid.sigmas[step], grid.sigmas[step + 1]
        length = after - sigma
        state = (x + length * prediction, x + length / 2 * prediction)
        rows.append(Row(grid.timesteps[step], input_scale(sigma), state, step, (1.0, sigma)))
        if after > 0:
            state = (midway + length / 2 * prediction, 0 * midway)
            timestep = grid.timesteps[step + 1]
            rows.append(Row(timestep, input_scale(after), state, step, (1.0, after)))
    return table_from_rows("Heun", grid.schedule, rows, grid.initial_noise_scale)
