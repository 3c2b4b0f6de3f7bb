"""DDIM: Song, Meng and Ermon 2020, "Denoising Diffusion Implicit Models", arXiv:2010.02502."""

import math

from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.schedules import trained_timesteps
from runtime.samplers.stochasticity import DEFAULT, Stochasticity
from runtime.samplers.table import Row, Table, basis, table_from_rows


def ddim(
    noise_schedule: NoiseSchedule,
    schedule: str,
    steps: int,
    first_step: int,
    stochasticity: Stochasticity = DEFAULT,
) -> Table:
    """Equations 12 and 16; the clean latent is never clipped.

    Each step goes down by the same number of timesteps, wherever the next one lies, and the
    last step goes to timestep 0's noise or to none, as `set_alpha_to_one` says.

    Args:
        noise_schedule: the model's.
        schedule: model, leading, linspace or trailing.
        steps: how many.
        first_step: where the run starts.
        stochasticity: eta, by itself 0.

    Raises:
        SettingError: the schedule is a sequence of sigmas.
    """
    timesteps = trained_timesteps("DDIM", noise_schedule, schedule, steps)
    length = noise_schedule.num_train_timesteps // steps
    eta = stochasticity.eta_or(0.0)
    x, prediction, noise = basis(history=0)
    rows = []
    for step in range(first_step, steps):
        after = timesteps[step] - length
        timestep = min(timesteps[step], noise_schedule.last_timestep)
        alpha, alpha_next = noise_schedule.alpha_at(timestep), noise_schedule.alpha_at(after)
        up = eta * math.sqrt((1 - alpha_next) / (1 - alpha) * (1 - alpha / alpha_next))
        denoised = (x - math.sqrt(1 - alpha) * prediction) / math.sqrt(alpha)
        x_next = (
            math.sqrt(alpha_next) * denoised
            + math.sqrt(1 - alpha_next - up**2) * prediction
            + up * noise
        )
        start = (math.sqrt(alpha), math.sqrt(1 - alpha))
        rows.append(Row(timestep, 1.0, (x_next,), step, start, up > 0))
    return table_from_rows("DDIM", schedule, rows, initial_noise_scale=1.0)
