"""Euler's method, plain and ancestral: Karras et al. 2022, arXiv:2206.00364."""

from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.levels import ancestral_step, input_scale
from runtime.samplers.schedules import fractional_grid
from runtime.samplers.stochasticity import DEFAULT, Stochasticity, churn
from runtime.samplers.table import Row, Table, basis, table_from_rows


def euler(
    noise_schedule: NoiseSchedule,
    schedule: str,
    steps: int,
    first_step: int,
    stochasticity: Stochasticity = DEFAULT,
) -> Table:
    """Algorithm 2 without its second evaluation; dx/dsigma is the predicted noise.

    diffusers adds churn after it has called the model; this adds it before, as the paper and
    k-diffusion do.

    Args:
        noise_schedule: the model's.
        schedule: any.
        steps: how many.
        first_step: where the run starts.
        stochasticity: churn.
    """
    grid = fractional_grid(noise_schedule, schedule, steps)
    raised = churn(grid, noise_schedule, stochasticity, first_step)
    x, prediction, noise = basis(history=0)
    rows = []
    for step in range(first_step, grid.steps):
        sigma, after = raised.sigmas[step], grid.sigmas[step + 1]
        state = (x + (after - sigma) * prediction + raised.lifts[step + 1] * noise,)
        timestep = raised.timesteps[step]
        start = (1.0, grid.sigmas[step] if step == first_step else sigma)
        rows.append(
            Row(timestep, input_scale(sigma), state, step, start, bool(raised.draws[step + 1]))
        )
    return table_from_rows(
        "Euler", schedule, rows, grid.initial_noise_scale, raised.first_noise(first_step)
    )


def euler_ancestral(
    noise_schedule: NoiseSchedule,
    schedule: str,
    steps: int,
    first_step: int,
    stochasticity: Stochasticity = DEFAULT,
) -> Table:
    """Euler's step to a lower sigma, then fresh noise up to the schedule's.

    Args:
        noise_schedule: the model's.
        schedule: any.
        steps: how many.
        first_step: where the run starts.
        stochasticity: eta, by itself 1, and s_noise.
    """
    grid = fractional_grid(noise_schedule, schedule, steps)
    eta = stochasticity.eta_or(1.0)
    x, prediction, noise = basis(history=0)
    rows = []
    for step in range(first_step, grid.steps):
        sigma, after = grid.sigmas[step], grid.sigmas[step + 1]
        down, up = ancestral_step(sigma, after, eta)
        up *= stochasticity.s_noise
        state = (x + (down - sigma) * prediction + up * noise,)
        timestep, scale = grid.timesteps[step], input_scale(sigma)
        draws = eta > 0 and after > 0
        rows.append(Row(timestep, scale, state, step, (1.0, sigma), draws))
    return table_from_rows("Euler a", schedule, rows, grid.initial_noise_scale)
