"""How much fresh noise a sampler brings in: eta, and the churn of Karras et al. 2022."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.arrays import Float64Array
from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.schedules import Grid, timestep_of


@dataclass(frozen=True)
class Stochasticity:
    """The names are k-diffusion's and the webui's; which sampler takes which, the catalogue says.

    Attributes:
        eta: the share of the noise that makes a sampler ancestral or its equation stochastic: 0
            is deterministic, 1 is the whole. For TCD it is the paper's gamma. None is the
            sampler's own.
        s_churn: the noise brought in by a run, spread over its steps.
        s_tmin: the least sigma at which there is churn.
        s_tmax: the highest such sigma; None is no limit.
        s_noise: what multiplies all noise that is brought in.
    """

    eta: float | None = None
    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float | None = None
    s_noise: float = 1.0

    def eta_or(self, own: float) -> float:
        """Eta, where `own` is the sampler's own."""
        return own if self.eta is None else self.eta


DEFAULT = Stochasticity()


@dataclass(frozen=True)
class Churn:
    """A grid whose steps begin with fresh noise: arXiv:2206.00364, algorithm 2, lines 4 to 6.

    k-diffusion draws noise at every step of a run with churn, and lets it be outside the limits.
    Here the steps up to the last with churn do so; what would come after it is used by nothing.

    Attributes:
        sigmas: [steps], to which each step raises its sigma before it calls the model.
        timesteps: [steps], what the model is told there.
        lifts: [steps + 1], what multiplies the noise that does so; 0 where there is no churn, and
            at the end.
        draws: [steps + 1], whether noise is drawn for the step, be it multiplied by 0.
    """

    sigmas: Float64Array
    timesteps: Float64Array
    lifts: Float64Array
    draws: NDArray[np.bool_]

    def first_noise(self, first_step: int) -> float | None:
        """`Table.first_noise` of a run that starts at a step."""
        return float(self.lifts[first_step]) if self.draws[first_step] else None


def churn(
    grid: Grid, noise_schedule: NoiseSchedule, stochasticity: Stochasticity, first_step: int
) -> Churn:
    """Raise the sigmas of a run: Karras et al. 2022, algorithm 2.

    Args:
        grid: the steps, without churn.
        noise_schedule: the model's, which gives the timesteps of the raised sigmas.
        stochasticity: s_churn, which the run's steps share, s_tmin, s_tmax and s_noise.
        first_step: where the run starts.
    """
    amount = min(stochasticity.s_churn / (grid.steps - first_step), math.sqrt(2) - 1)
    before = grid.sigmas[:-1]
    highest = math.inf if stochasticity.s_tmax is None else stochasticity.s_tmax
    within = (before >= stochasticity.s_tmin) & (before <= highest)
    sigmas = before * (1 + amount * within)
    timesteps = grid.timesteps.copy()
    for step in np.flatnonzero(sigmas > before):
        timesteps[step] = timestep_of(sigmas[step], noise_schedule)
    lifts = np.append(stochasticity.s_noise * np.sqrt(sigmas**2 - before**2), 0.0)
    churned = np.append(sigmas > before, False)
    draws = np.logical_or.accumulate(churned[::-1])[::-1]
    return Churn(sigmas, timesteps, lifts, draws)
