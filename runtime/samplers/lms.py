"""Linear multistep: the Adams-Bashforth method with uneven steps, as k-diffusion has it."""

import math

from runtime.arrays import Float64Array
from runtime.samplers.levels import input_scale
from runtime.samplers.schedules import Grid
from runtime.samplers.table import Row, Table, basis, table_from_rows

ORDER = 4


def lms(grid: Grid, first_step: int) -> Table:
    """Integrate the polynomial through the last four slopes (Hairer, Solving ODEs I, III.5).

    The history is the three slopes before. diffusers weighs a run's first slopes as if it had
    come from step 0, which is wrong for one that starts later; this starts with order 1 there,
    as k-diffusion does.

    Args:
        grid: the steps; sigmas end at 0.
        first_step: where the run starts, with no history.

    Raises:
        SettingError: two sigmas are the same.
    """
    grid.require_length("LMS")
    x, *past, prediction, _ = basis(history=ORDER - 1)
    slopes = (prediction, *past)
    rows = []
    for step in range(first_step, grid.steps):
        sigma, after = grid.sigmas[step], grid.sigmas[step + 1]
        order = min(step - first_step + 1, ORDER)
        weights = _weights(grid.sigmas[step - order + 1 : step + 1][::-1], after)
        x_next = x + sum(weight * slope for weight, slope in zip(weights, slopes, strict=False))
        state = (x_next, *slopes[:-1])
        rows.append(Row(grid.timesteps[step], input_scale(sigma), state, step, (1.0, sigma)))
    return table_from_rows("LMS", grid.schedule, rows, grid.initial_noise_scale)


def _weights(points: Float64Array, end: float) -> list[float]:
    """The integrals from the first point to `end` of the Lagrange polynomials on the points.

    Gauss's rule of two nodes is exact for their degree, 3 at most.
    """
    at = points.tolist()
    half, middle = (end - at[0]) / 2, (end + at[0]) / 2
    nodes = middle - half / math.sqrt(3), middle + half / math.sqrt(3)
    weights = []
    for index, point in enumerate(at):
        others = at[:index] + at[index + 1 :]
        values = [math.prod((x - other) / (point - other) for other in others) for x in nodes]
        weights.append(half * sum(values))
    return weights
