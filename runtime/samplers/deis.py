"""DEIS: Zhang and Chen 2022, "Fast Sampling with Exponential Integrator", arXiv:2204.13902."""

import math

import numpy as np

from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.levels import alpha_sigma
from runtime.samplers.schedules import Grid, integer_grid
from runtime.samplers.table import Row, Table, basis, table_from_rows

FEW_STEPS = 15
"""Below this many steps the last one is of first order."""


def deis(noise_schedule: NoiseSchedule, schedule: str, steps: int, first_step: int) -> Table:
    """The multistep variant of second order, whose polynomial is a line in log rho.

    The history is the previous prediction. As in diffusers the run ends at the least sigma of
    training, not at 0; a sequence of sigmas that has it as its last already stays there for the
    last step.

    Args:
        noise_schedule: the model's.
        schedule: any.
        steps: how many.
        first_step: where the run starts, with no history.

    Raises:
        SettingError: two sigmas before the last are the same.
    """
    grid = _grid_to_least_sigma(noise_schedule, schedule, steps)
    x, previous, prediction, _ = basis(history=1)
    rows = []
    for step in range(first_step, steps):
        rho, after = grid.sigmas[step], grid.sigmas[step + 1]
        alpha, sigma = alpha_sigma(rho)
        alpha_next, _ = alpha_sigma(after)
        first_order = step == first_step or (step == steps - 1 and steps < FEW_STEPS)
        if first_order:
            change = (after - rho) * prediction
        else:
            before = grid.sigmas[step - 1]
            weight = _weight(rho, after, before)
            change = (after - rho - weight) * prediction + weight * previous
        x_next = alpha_next * (x / alpha + change)
        rows.append(Row(grid.timesteps[step], 1.0, (x_next, prediction), step, (alpha, sigma)))
    return table_from_rows("DEIS", schedule, rows, initial_noise_scale=1.0)


def _weight(rho: float, after: float, before: float) -> float:
    """The integral over the step of the line in log rho that is 0 at `rho` and 1 at `before`."""
    ratio = math.log(after / rho)
    return (after * (ratio - 1) + rho) / math.log(before / rho)


def _grid_to_least_sigma(noise_schedule: NoiseSchedule, schedule: str, steps: int) -> Grid:
    grid = integer_grid(noise_schedule, schedule, steps)
    grid.require_length("DEIS")
    least = min(grid.sigmas[-2], noise_schedule.sigmas[0])
    sigmas = np.append(grid.sigmas[:-1], least)
    return Grid(schedule, grid.timesteps, sigmas, grid.initial_noise_scale)
