"""PLMS: Liu et al. 2022, "Pseudo Numerical Methods for Diffusion Models", arXiv:2202.09778."""

import math

import numpy as np

from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.schedules import trained_timesteps
from runtime.samplers.table import Row, Table, Vector, basis, table_from_rows

_BASHFORTH = (
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""The weights of the last two to four predictions: Adams-Bashforth with even steps."""


def plms(noise_schedule: NoiseSchedule, schedule: str, steps: int, first_step: int) -> Table:
    """The pseudo linear multistep method: equation 9 with an Adams-Bashforth combination.

    The run begins with a step that is taken twice, the second time with the mean of the slopes
    at both its ends. The history is three predictions, and x at the start of that step. Started
    late, diffusers keeps the list of timesteps of a whole run, so that the repeated step spans
    two of its steps unless it starts at the first; this does as well.

    Args:
        noise_schedule: the model's.
        schedule: model, leading, linspace or trailing.
        steps: how many.
        first_step: where the run starts.

    Raises:
        SettingError: the schedule is a sequence of sigmas.
    """
    timesteps = trained_timesteps("PLMS", noise_schedule, schedule, steps)
    length = noise_schedule.num_train_timesteps // steps

    def alpha_at(timestep: int) -> float:
        return noise_schedule.alpha_at(timestep, ends_at_one=False)

    def move(x: Vector, predicted: Vector, begin: int, end: int) -> Vector:
        alpha, alpha_next = alpha_at(begin), alpha_at(end)
        denominator = alpha * math.sqrt(1 - alpha_next) + math.sqrt(
            alpha * (1 - alpha) * alpha_next
        )
        kept = math.sqrt(alpha_next / alpha)
        moved: Vector = kept * x - (alpha_next - alpha) / denominator * predicted
        return moved

    x, begin, *past, prediction, _ = basis(history=4)
    visited = np.concatenate([timesteps[:2], timesteps[1:]])[first_step:]
    rows = []
    for call, timestep in enumerate(visited):
        alpha = alpha_at(timestep)
        start = (math.sqrt(alpha), math.sqrt(1 - alpha))
        if call == 0:
            state = (move(x, prediction, timestep, timestep - length), x, prediction, *past[:2])
        elif call == 1:
            mean = (prediction + past[0]) / 2
            state = (move(begin, mean, timestep + length, timestep), 0 * begin, *past)
        else:
            slopes = (prediction, *past)
            weights = _BASHFORTH[min(call - 2, 2)]
            combined = 0 * prediction
            for weight, slope in zip(weights, slopes, strict=False):
                combined = combined + weight * slope
            x_next = move(x, combined, timestep, timestep - length)
            state = (x_next, 0 * begin, *slopes[:3])
        step = first_step + max(call - 1, 0)
        told = min(timestep, noise_schedule.last_timestep)
        rows.append(Row(told, 1.0, state, step, start))
    return table_from_rows("PLMS", schedule, rows, initial_noise_scale=1.0)
