"""DDIM: Song, Meng and Ermon 2020, "Denoising Diffusion Implicit Models", arXiv:2010.02502."""

import math

from engines.errors import SettingError
from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.schedules import spaced_timesteps, spacing_of
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
        SettingError: a timestep is beyond those that the model was trained on.
    """
    spacing = spacing_of(schedule, noise_schedule, "leading")
    if spacing is None:
        raise SettingError(f"DDIM has no schedule {schedule}; choose normal.")
    trained = noise_schedule.num_train_timesteps
    timesteps = spaced_timesteps(spacing, noise_schedule, steps, open_end=False).astype(int)
    if timesteps[0] >= trained:
        raise SettingError(
            f"DDIM cannot take {steps} steps: the model knows timesteps to {trained - 1} only. "
            f"Choose at most {trained - 1} steps."
        )
    alphas = noise_schedule.alphas_cumprod
    last = alphas[0] if noise_schedule.set_alpha_to_one is False else 1.0
    x, prediction, _ = basis(history=0)
    rows = []
    for step in range(first_step, steps):
        timestep = timesteps[step]
        after = timestep - trained // steps
        alpha, alpha_next = alphas[timestep], alphas[after] if after >= 0 else last
        denoised = (x - math.sqrt(1 - alpha) * prediction) / math.sqrt(alpha)
        x_next = math.sqrt(alpha_next) * denoised + math.sqrt(1 - alpha_next) * prediction
        start = (math.sqrt(alpha), math.sqrt(1 - alpha))
        rows.append(Row(timestep, 1.0, (x_next,), step, start))
    return table_from_rows("DDIM", schedule, rows, initial_noise_scale=1.0)
