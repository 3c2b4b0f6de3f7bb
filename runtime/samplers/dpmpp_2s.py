"""DPM-Solver++(2S), ancestral: Lu et al. 2022, "DPM-Solver++", arXiv:2211.01095, algorithm 1."""

import math

from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.levels import ancestral_step, input_scale
from runtime.samplers.schedules import fractional_grid, timestep_of
from runtime.samplers.stochasticity import DEFAULT, Stochasticity
from runtime.samplers.table import Row, Table, basis, table_from_rows


def dpmpp_2s_ancestral(
    noise_schedule: NoiseSchedule,
    schedule: str,
    steps: int,
    first_step: int,
    stochasticity: Stochasticity = DEFAULT,
) -> Table:
    """Two calls a step down to a lower sigma, then fresh noise up to the schedule's.

    As in k-diffusion the second call is at the geometric mean of the step's sigmas, and its
    clean latent alone drives the step. The history is the start of the step. The step that ends
    at sigma 0 has no second call.

    Args:
        noise_schedule: the model's.
        schedule: any.
        steps: how many.
        first_step: where the run starts.
        stochasticity: eta, by itself 1, and s_noise.
    """
    grid = fractional_grid(noise_schedule, schedule, steps)
    eta = stochasticity.eta_or(1.0)
    x, begin, prediction, noise = basis(history=1)
    rows = []
    for step in range(first_step, grid.steps):
        sigma, after = grid.sigmas[step], grid.sigmas[step + 1]
        down, up = ancestral_step(sigma, after, eta)
        up *= stochasticity.s_noise
        middle = math.sqrt(sigma * down)
        kept = middle / sigma
        state = (kept * x + (1 - kept) * (x - sigma * prediction), x)
        rows.append(Row(grid.timesteps[step], input_scale(sigma), state, step, (1.0, sigma)))
        if down > 0:
            kept = down / sigma
            denoised = x - middle * prediction
            state = (kept * begin + (1 - kept) * denoised + up * noise, 0 * begin)
            timestep, scale = timestep_of(middle, noise_schedule), input_scale(middle)
            rows.append(Row(timestep, scale, state, step, (1.0, middle), eta > 0))
    return table_from_rows("DPM++ 2S a", schedule, rows, grid.initial_noise_scale)
