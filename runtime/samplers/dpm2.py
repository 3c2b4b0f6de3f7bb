"""DPM-Solver-2 for the predicted noise, plain and ancestral: Lu et al. 2022, arXiv:2206.00927."""

import math

from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.levels import ancestral_step, input_scale
from runtime.samplers.schedules import Grid, fractional_grid, timestep_of
from runtime.samplers.stochasticity import DEFAULT, Stochasticity, churn
from runtime.samplers.table import Row, Table, basis, table_from_rows


def dpm2(
    noise_schedule: NoiseSchedule,
    schedule: str,
    steps: int,
    first_step: int,
    stochasticity: Stochasticity = DEFAULT,
) -> Table:
    """Two calls a step, the second at the geometric mean of its sigmas: algorithm 1, r = 1/2.

    The history is the start of the step. The step that ends at sigma 0 has no second call.

    Args:
        noise_schedule: the model's.
        schedule: any.
        steps: how many.
        first_step: where the run starts.
        stochasticity: churn, added before the step's first call.
    """
    grid = _grid(noise_schedule, schedule, steps)
    raised = churn(grid, noise_schedule, stochasticity, first_step)
    x, begin, prediction, noise = basis(history=1)
    rows = []
    for step in range(first_step, grid.steps):
        sigma, after = raised.sigmas[step], grid.sigmas[step + 1]
        middle = math.sqrt(sigma * after)
        start = (1.0, grid.sigmas[step] if step == first_step else sigma)
        state = (x + (middle - sigma) * prediction, x)
        rows.append(Row(raised.timesteps[step], input_scale(sigma), state, step, start))
        if after > 0:
            lift, draws = raised.lifts[step + 1], bool(raised.draws[step + 1])
            state = (begin + (after - sigma) * prediction + lift * noise, 0 * begin)
            timestep, scale = timestep_of(middle, noise_schedule), input_scale(middle)
            rows.append(Row(timestep, scale, state, step, (1.0, middle), draws))
    return table_from_rows(
        "DPM2", schedule, rows, grid.initial_noise_scale, raised.first_noise(first_step)
    )


def dpm2_ancestral(
    noise_schedule: NoiseSchedule,
    schedule: str,
    steps: int,
    first_step: int,
    stochasticity: Stochasticity = DEFAULT,
) -> Table:
    """The same down to a lower sigma, then fresh noise up to the schedule's.

    Args:
        noise_schedule: the model's.
        schedule: any.
        steps: how many.
        first_step: where the run starts.
        stochasticity: eta, by itself 1, and s_noise.
    """
    grid = _grid(noise_schedule, schedule, steps)
    eta = stochasticity.eta_or(1.0)
    x, begin, prediction, noise = basis(history=1)
    rows = []
    for step in range(first_step, grid.steps):
        sigma, after = grid.sigmas[step], grid.sigmas[step + 1]
        down, up = ancestral_step(sigma, after, eta)
        up *= stochasticity.s_noise
        middle = math.sqrt(sigma * down)
        state = (x + (middle - sigma) * prediction, x)
        rows.append(Row(grid.timesteps[step], input_scale(sigma), state, step, (1.0, sigma)))
        if down > 0:
            state = (begin + (down - sigma) * prediction + up * noise, 0 * begin)
            timestep, scale = timestep_of(middle, noise_schedule), input_scale(middle)
            rows.append(Row(timestep, scale, state, step, (1.0, middle), eta > 0))
    return table_from_rows("DPM2 a", schedule, rows, grid.initial_noise_scale)


def _grid(noise_schedule: NoiseSchedule, schedule: str, steps: int) -> Grid:
    """Round the timesteps of Karras sigmas, as diffusers does for this sampler alone."""
    grid = fractional_grid(noise_schedule, schedule, steps)
    if schedule != "karras":
        return grid
    return Grid(schedule, grid.timesteps.round(), grid.sigmas, grid.initial_noise_scale)
