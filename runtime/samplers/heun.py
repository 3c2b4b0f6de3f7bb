"""Heun's method: Karras et al. 2022, arXiv:2206.00364, algorithm 2."""

from collections.abc import Sequence
from dataclasses import dataclass

from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.levels import input_scale
from runtime.samplers.schedules import fractional_grid
from runtime.samplers.stochasticity import DEFAULT, Stochasticity, churn
from runtime.samplers.table import Row, Table, basis, table_from_rows


@dataclass(frozen=True)
class Leg:
    """One step of Heun's method.

    Attributes:
        step: its index.
        timestep: of its beginning.
        sigma: of its beginning.
        timestep_after: of its end.
        after: the sigma of its end.
        draws: whether fresh noise is drawn for its end.
        lift: what multiplies that.
    """

    step: int
    timestep: float
    sigma: float
    timestep_after: float
    after: float
    draws: bool
    lift: float


def heun(
    noise_schedule: NoiseSchedule,
    schedule: str,
    steps: int,
    first_step: int,
    stochasticity: Stochasticity = DEFAULT,
) -> Table:
    """Two calls a step: Euler's step, then half of it and half of one by the slope at its end.

    Args:
        noise_schedule: the model's.
        schedule: any.
        steps: how many.
        first_step: where the run starts.
        stochasticity: churn, added before the step's first call.
    """
    grid = fractional_grid(noise_schedule, schedule, steps)
    raised = churn(grid, noise_schedule, stochasticity, first_step)
    legs = [
        Leg(
            step,
            raised.timesteps[step],
            raised.sigmas[step],
            grid.timesteps[min(step + 1, steps - 1)],
            grid.sigmas[step + 1],
            bool(raised.draws[step + 1]),
            raised.lifts[step + 1],
        )
        for step in range(first_step, steps)
    ]
    return table_from_legs(
        "Heun",
        schedule,
        legs,
        grid.sigmas[first_step],
        grid.initial_noise_scale,
        raised.first_noise(first_step),
    )


def table_from_legs(
    sampler: str,
    schedule: str,
    legs: Sequence[Leg],
    first_sigma: float,
    initial_noise_scale: float,
    first_noise: float | None = None,
) -> Table:
    """Heun's two calls for each leg; one that ends at sigma 0 has no second.

    The history is the start of the step, advanced by half of the first slope.

    Args:
        sampler: the table's name.
        schedule: the schedule's name.
        legs: the steps in their order.
        first_sigma: of the first one before `first_noise` is added.
        initial_noise_scale: of the table.
        first_noise: of the table.
    """
    x, midway, prediction, noise = basis(history=1)
    rows: list[Row] = []
    for leg in legs:
        length = leg.after - leg.sigma
        sigma = leg.sigma if rows else first_sigma
        state = (x + length * prediction, x + length / 2 * prediction)
        scale = input_scale(leg.sigma)
        rows.append(Row(leg.timestep, scale, state, leg.step, (1.0, sigma)))
        if leg.after > 0:
            end = midway + length / 2 * prediction + leg.lift * noise
            scale, start = input_scale(leg.after), (1.0, leg.after)
            state = (end, 0 * midway)
            rows.append(Row(leg.timestep_after, scale, state, leg.step, start, leg.draws))
    return table_from_rows(sampler, schedule, rows, initial_noise_scale, first_noise)
