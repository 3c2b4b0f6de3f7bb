"""Restart: Xu et al. 2023, "Restart Sampling for Improving Generative Processes".

arXiv:2306.14878, algorithm 1, with Heun's method as the solver and the intervals that
AUTOMATIC1111's webui has chosen.
"""

import itertools
import math

import numpy as np

from runtime.arrays import Float64Array
from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.heun import Leg, table_from_legs
from runtime.samplers.schedules import fractional_grid, timestep_of
from runtime.samplers.sigmas import karras_between
from runtime.samplers.stochasticity import DEFAULT, Stochasticity
from runtime.samplers.table import Table

LEAST_SIGMA, HIGHEST_SIGMA = 0.1, 2.0
"""Near which a restart begins and up to which its noise goes."""
FEWEST_STEPS = 20
"""Below this many steps there is no restart, and the run is Heun's."""
_STEPS_OF_ONE = 9
_MANY_STEPS = 36
"""From this many on there are two restarts, of a quarter of the steps each."""


def restart(
    noise_schedule: NoiseSchedule,
    schedule: str,
    steps: int,
    first_step: int,
    stochasticity: Stochasticity = DEFAULT,
) -> Table:
    """Down to little noise, then up again by fresh noise and down once more, once or twice.

    The steps of the restarts are among those asked for. A run that starts late restarts as one
    of so many steps would.

    Args:
        noise_schedule: the model's.
        schedule: karras.
        steps: how many.
        first_step: where the run starts.
        stochasticity: s_noise.
    """
    grid = fractional_grid(noise_schedule, schedule, steps)
    down = _descents(grid.sigmas[first_step:-1])
    pairs = [pair for sigmas in down for pair in itertools.pairwise(sigmas)]
    legs = []
    for index, (sigma, after) in enumerate(pairs):
        restarts_at = pairs[index + 1][0] if index + 1 < len(pairs) else after
        lift = stochasticity.s_noise * math.sqrt(restarts_at**2 - after**2)
        legs.append(
            Leg(
                first_step + index,
                timestep_of(sigma, noise_schedule),
                sigma,
                timestep_of(after, noise_schedule),
                after,
                lift > 0,
                lift,
            )
        )
    return table_from_legs(
        "Restart", schedule, legs, grid.sigmas[first_step], grid.initial_noise_scale
    )


def _descents(sigmas: Float64Array) -> list[Float64Array]:
    """The falling sigmas of a run in the place of these, [steps], cut where it restarts."""
    steps = len(sigmas)
    plain = [np.append(sigmas, 0.0)]
    if steps < FEWEST_STEPS:
        return plain
    times, length = (2, steps // 4) if steps >= _MANY_STEPS else (1, _STEPS_OF_ONE)
    main = karras_between(sigmas[0], sigmas[-1], steps - times * length)
    low, high = (int(np.abs(main - level).argmin()) for level in (LEAST_SIGMA, HIGHEST_SIGMA))
    if high >= low:
        return plain
    again = karras_between(main[high], main[low], length + 1)
    again[[0, -1]] = main[[high, low]]
    return [main[: low + 1], *[again] * times, np.append(main[low:], 0.0)]
