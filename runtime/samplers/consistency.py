"""Samplers for models distilled to a few steps: LCM and TCD.

Both visit the fifty timesteps that the distillation used, or some of them.
"""

import math

import numpy as np
from numpy.typing import NDArray

from engines.errors import SettingError
from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.stochasticity import DEFAULT, Stochasticity
from runtime.samplers.table import Row, Table, basis, table_from_rows

DISTILLED_STEPS = 50
TCD_GAMMA = 0.3
"""TCD's own eta, diffusers' default: how far it steps beyond the next timestep, to add noise."""
_SIGMA_DATA = 0.5
_TIMESTEP_SCALING = 10.0


def lcm(noise_schedule: NoiseSchedule, schedule: str, steps: int, first_step: int) -> Table:
    """Multistep consistency sampling: Luo et al. 2023, arXiv:2310.04378.

    The clean latent, with the boundary condition at timestep 0, noised to the next timestep.

    Args:
        noise_schedule: the model's.
        schedule: model.
        steps: how many, at most 50.
        first_step: where the run starts.

    Raises:
        SettingError: there are more steps than the distillation had.
    """
    timesteps = _distilled_timesteps("LCM", noise_schedule, steps)
    alphas = noise_schedule.alphas_cumprod
    x, prediction, noise = basis(history=0)
    rows = []
    for step in range(first_step, steps):
        timestep = timesteps[step]
        alpha, sigma = math.sqrt(alphas[timestep]), math.sqrt(1 - alphas[timestep])
        scaled = timestep * _TIMESTEP_SCALING
        skip = _SIGMA_DATA**2 / (scaled**2 + _SIGMA_DATA**2)
        out = scaled / math.sqrt(scaled**2 + _SIGMA_DATA**2)
        x_next = out * (x - sigma * prediction) / alpha + skip * x
        last = step == steps - 1
        if not last:
            after = alphas[timesteps[step + 1]]
            x_next = math.sqrt(after) * x_next + math.sqrt(1 - after) * noise
        rows.append(Row(timestep, 1.0, (x_next,), step, (alpha, sigma), not last))
    return table_from_rows("LCM", schedule, rows, initial_noise_scale=1.0)


def tcd(
    noise_schedule: NoiseSchedule,
    schedule: str,
    steps: int,
    first_step: int,
    stochasticity: Stochasticity = DEFAULT,
) -> Table:
    """Strategic stochastic sampling: Zheng et al. 2024, arXiv:2402.19159.

    DDIM's step to an earlier timestep than the next, then noise up to the next.

    Args:
        noise_schedule: the model's.
        schedule: model.
        steps: how many, at most 50.
        first_step: where the run starts.
        stochasticity: eta, the paper's gamma, by itself 0.3.

    Raises:
        SettingError: there are more steps than the distillation had.
    """
    timesteps = np.append(_distilled_timesteps("TCD", noise_schedule, steps), 0)
    share = np.float32(1 - stochasticity.eta_or(TCD_GAMMA))
    targets = np.floor(share * timesteps.astype(np.float32)).astype(int)
    alphas = noise_schedule.alphas_cumprod
    x, prediction, noise = basis(history=0)
    rows = []
    for step in range(first_step, steps):
        timestep = timesteps[step]
        alpha, sigma = math.sqrt(alphas[timestep]), math.sqrt(1 - alphas[timestep])
        target = alphas[targets[step + 1]]
        denoised = (x - sigma * prediction) / alpha
        x_next = math.sqrt(target) * denoised + math.sqrt(1 - target) * prediction
        up = 0.0
        if step < steps - 1:
            kept = alphas[timesteps[step + 1]] / target
            up = math.sqrt(1 - kept)
            x_next = math.sqrt(kept) * x_next + up * noise
        rows.append(Row(timestep, 1.0, (x_next,), step, (alpha, sigma), up > 0))
    return table_from_rows("TCD", schedule, rows, initial_noise_scale=1.0)


def _distilled_timesteps(
    sampler: str, noise_schedule: NoiseSchedule, steps: int
) -> NDArray[np.int64]:
    """`steps` of the distillation's timesteps, falling from the last one."""
    if steps > DISTILLED_STEPS:
        raise SettingError(
            f"{sampler} cannot take {steps} steps; it is for few. "
            f"Choose at most {DISTILLED_STEPS} steps."
        )
    spacing = noise_schedule.num_train_timesteps // DISTILLED_STEPS
    falling = np.arange(DISTILLED_STEPS, 0, -1) * spacing - 1
    places = np.floor(np.linspace(0, DISTILLED_STEPS, steps, endpoint=False)).astype(int)
    chosen: NDArray[np.int64] = falling[places]
    return chosen
