"""DDIM: Song, Meng and Ermon 2020, "Denoising Diffusion Implicit Models", arXiv:2010.02502."""

import math

from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.schedules import trained_timesteps
from runtime.samplers.table import Row, Table, basis, table_from_rows


def ddim(noise_schedule: NoiseSchedule, schedule: str, steps: int, first_step: int) -> Table:
    """The deterministic sampler (eta 0), equation 12; the clean latent is never clipped.

    Each step goes down by the same number of timesteps, wherever the next one lies, and the
    last step goes to timestep 0's noise or to none, as `set_alpha_to_one` says.

    Args:
        noise_schedule: the model's.
        schedule: normal, leading, linspace or trailing.
        steps: how many.
        first_step: where the run starts.

    Raises:
        SettingError: the schedule is a sequence of sigmas, or a timestep is beyond training.
    """
    timesteps = trained_timesteps("DDIM", noise_schedule, schedule, steps)
    length = noise_schedule.num_train_timesteps // steps
    alphas = noise_schedule.alphas_cumprod
    last = alphas[0] if noise_schedule.set_alpha_to_one is False else 1.0
    x, prediction, _ = basis(history=0)
    rows = []
    for step in range(first_step, steps):
        timestep = timesteps[step]
        after = timestep - length
        alpha, alpha_next = alphas[timestep], alphas[after] if after >= 0 else last
        denoised = (x - math.sqrt(1 - alpha) * prediction) / math.sqrt(alpha)
        x_next = math.sqrt(alpha_next) * denoised + math.sqrt(1 - alpha_next) * prediction
        start = (math.sqrt(alpha), math.sqrt(1 - alpha))
        rows.append(Row(timestep, 1.0, (x_next,), step, start))
    return table_from_rows("DDIM", schedule, rows, initial_noise_scale=1.0)
