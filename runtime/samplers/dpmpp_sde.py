"""DPM-Solver++ for the diffusion SDE, singlestep, as k-diffusion has it (arXiv:2211.01095)."""

import math

from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.levels import ancestral_step, input_scale
from runtime.samplers.schedules import fractional_grid, timestep_of
from runtime.samplers.stochasticity import DEFAULT, Stochasticity
from runtime.samplers.table import Row, Table, basis, table_from_rows


def dpmpp_sde(
    noise_schedule: NoiseSchedule,
    schedule: str,
    steps: int,
    first_step: int,
    stochasticity: Stochasticity = DEFAULT,
) -> Table:
    """Two calls a step, the second at the geometric mean of its sigmas, both with noise.

    The noises of a step's two halves are the increments of one Brownian motion over sigma: what
    the whole step adds contains what its first half added. The history is what the start and
    the first noise contribute to the end of the step. The step that ends at sigma 0 has no
    second call.

    Args:
        noise_schedule: the model's.
        schedule: any.
        steps: how many.
        first_step: where the run starts.
        stochasticity: eta, by itself 1, and s_noise.

    Raises:
        SettingError: two sigmas are the same.
    """
    grid = fractional_grid(noise_schedule, schedule, steps)
    grid.require_length("DPM++ SDE")
    eta, s_noise = stochasticity.eta_or(1.0), stochasticity.s_noise
    x, begun, prediction, noise = basis(history=1)
    rows = []
    for step in range(first_step, grid.steps):
        sigma, after = grid.sigmas[step], grid.sigmas[step + 1]
        timestep, scale, start = grid.timesteps[step], input_scale(sigma), (1.0, sigma)
        denoised = x - sigma * prediction
        if after == 0:
            rows.append(Row(timestep, scale, (denoised, 0 * begun), step, start))
            break
        middle = math.sqrt(sigma * after)
        share = (sigma - middle) / (sigma - after)

        down, up = ancestral_step(sigma, middle, eta)
        whole_down, whole_up = ancestral_step(sigma, after, eta)
        up, whole_up = s_noise * up, s_noise * whole_up
        kept, whole_kept = down / sigma, whole_down / sigma
        state = (
            kept * x + (1 - kept) * denoised + up * noise,
            whole_kept * x + whole_up * math.sqrt(share) * noise,
        )
        rows.append(Row(timestep, scale, state, step, start, eta > 0))

        denoised = x - middle * prediction
        x_next = begun + (1 - whole_kept) * denoised + whole_up * math.sqrt(1 - share) * noise
        timestep, scale = timestep_of(middle, noise_schedule), input_scale(middle)
        rows.append(Row(timestep, scale, (x_next, 0 * begun), step, (1.0, middle), eta > 0))
    return table_from_rows("DPM++ SDE", schedule, rows, grid.initial_noise_scale)
