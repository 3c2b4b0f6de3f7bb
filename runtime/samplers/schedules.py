"""Where a sampler's steps lie: on spacings of timesteps or on sequences of sigmas.

diffusers derives the same named schedule in two ways. Its multistep solvers round timesteps to
integers; its samplers from k-diffusion keep fractions, and there Karras, exponential and beta
sigmas span the noise of the chosen timesteps only. Both are here, `integer_grid` and
`fractional_grid`, but for that range: it is all trained noise, which is what AUTOMATIC1111's
webui does, and diffusers where `timestep_spacing` is linspace. Sigmas pass through float32 as
they do there.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.errors import SettingError
from runtime.arrays import Float64Array
from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.sigmas import DIFFUSERS_SEQUENCES, SEQUENCES

MODEL = "model"
"""The schedule that means the spacing of timesteps which the model's configuration names."""
SPACINGS = ("leading", "linspace", "trailing")


@dataclass(frozen=True)
class Grid:
    """The points that a sampler visits.

    Attributes:
        schedule: the schedule's name.
        timesteps: [steps], falling, as the model is told.
        sigmas: [steps + 1], falling, noise-to-signal ratios; the last is where the run ends.
        initial_noise_scale: what multiplies the noise that a picture from nothing starts from.
    """

    schedule: str
    timesteps: Float64Array
    sigmas: Float64Array
    initial_noise_scale: float

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(self.timesteps)

    def require_length(self, sampler: str) -> None:
        """Refuse steps from a sigma to the same one, over which a solver would divide by zero.

        Raises:
            SettingError: there is such a step.
        """
        if not (np.diff(self.sigmas) < 0).all():
            raise SettingError(
                f"{sampler} cannot take {self.steps} steps on the schedule {self.schedule}: "
                "some would have no length. Choose fewer."
            )


def spacing_of(schedule: str, noise_schedule: NoiseSchedule, default: str) -> str | None:
    """The spacing of timesteps that a schedule means, or None if it is a sequence of sigmas.

    Args:
        schedule: `model` is the spacing that the model's configuration asks for.
        noise_schedule: the model's.
        default: the spacing where the configuration does not say.
    """
    if schedule == MODEL:
        return noise_schedule.timestep_spacing or default
    return schedule if schedule in SPACINGS else None


def spaced_timesteps(
    spacing: str, noise_schedule: NoiseSchedule, steps: int, *, open_end: bool
) -> Float64Array:
    """Integer timesteps, falling, [steps]: Lin et al. 2023 (arXiv:2305.08891), table 2.

    For some numbers of steps (61 of 1000) rounding makes diffusers add a timestep -1 to
    `trailing`; here there are as many as were asked for.

    Args:
        spacing: leading, linspace or trailing.
        noise_schedule: gives the number of trained timesteps and the offset of `leading`.
        steps: how many.
        open_end: leave out the last of `steps + 1` points, as the multistep solvers do.
    """
    trained = noise_schedule.num_train_timesteps
    points = steps + open_end
    if spacing == "linspace":
        return np.linspace(0, trained - 1, points).round()[::-1][:steps]
    if spacing == "leading":
        rising = np.arange(points) * (trained // points) + noise_schedule.steps_offset
        return rising[::-1][:steps].astype(np.float64)
    return np.arange(trained, 0, -trained / steps)[:steps].round() - 1


def trained_timesteps(
    sampler: str, noise_schedule: NoiseSchedule, schedule: str, steps: int
) -> NDArray[np.int64]:
    """The timesteps of a sampler that knows only those of training, falling, [steps].

    With as many steps as training had, `leading` may begin one beyond its last timestep.

    Args:
        sampler: its name, for the error.
        noise_schedule: the model's.
        schedule: a spacing, or `model`.
        steps: how many.

    Raises:
        SettingError: the schedule is a sequence of sigmas.
    """
    spacing = spacing_of(schedule, noise_schedule, "leading")
    if spacing is None:
        raise SettingError(f"{sampler} has no schedule {schedule}; choose {MODEL}.")
    timesteps = spaced_timesteps(spacing, noise_schedule, steps, open_end=False)
    return timesteps.astype(np.int64)


def integer_grid(noise_schedule: NoiseSchedule, schedule: str, steps: int) -> Grid:
    """The grid of diffusers' multistep solvers (DPM-Solver++, UniPC, DEIS), ending at sigma 0.

    On schedules that diffusers has not the timesteps keep their fractions.
    """
    trained = noise_schedule.sigmas
    spacing = spacing_of(schedule, noise_schedule, "linspace")
    if spacing is not None:
        timesteps = spaced_timesteps(spacing, noise_schedule, steps, open_end=True)
        sigmas = np.interp(timesteps, np.arange(len(trained)), trained)
    else:
        sigmas = SEQUENCES[schedule](trained, steps)
        timesteps = timesteps_of(sigmas, noise_schedule)
        if schedule == "karras":
            timesteps = timesteps.round()
        elif schedule in DIFFUSERS_SEQUENCES:
            timesteps = np.trunc(timesteps)
    return Grid(schedule, timesteps, _end_at_zero(sigmas), initial_noise_scale=1.0)


def fractional_grid(noise_schedule: NoiseSchedule, schedule: str, steps: int) -> Grid:
    """The grid of the samplers that diffusers has from k-diffusion, ending at sigma 0.

    x there is latent + sigma * noise. The noise that a picture starts from stands for latent
    and noise together unless the spacing reaches the last timestep.
    """
    trained = noise_schedule.sigmas
    spacing = spacing_of(schedule, noise_schedule, "linspace")
    if spacing is None:
        sigmas = SEQUENCES[schedule](trained, steps)
        timesteps = timesteps_of(sigmas, noise_schedule)
    else:
        if spacing == "linspace":
            timesteps = np.linspace(0, len(trained) - 1, steps)[::-1]
        else:
            timesteps = spaced_timesteps(spacing, noise_schedule, steps, open_end=False)
        sigmas = np.interp(_through_float32(timesteps), np.arange(len(trained)), trained)
    sigmas = _end_at_zero(sigmas)
    highest = float(sigmas[0])
    scale = math.sqrt(highest**2 + 1) if spacing == "leading" else highest
    return Grid(schedule, _through_float32(timesteps), sigmas, scale)


def timesteps_of(sigmas: Float64Array, noise_schedule: NoiseSchedule) -> Float64Array:
    """The fractional timesteps at which training had these sigmas, linear in their logarithm."""
    trained = np.log(noise_schedule.sigmas.astype(np.float32)).astype(np.float64)
    wanted = np.log(np.maximum(sigmas, 1e-10))
    low = np.clip(np.searchsorted(trained, wanted, side="right") - 1, 0, len(trained) - 2)
    weight = np.clip((trained[low] - wanted) / (trained[low] - trained[low + 1]), 0, 1)
    timesteps: Float64Array = (1 - weight) * low + weight * (low + 1)
    return timesteps


def timestep_of(sigma: float, noise_schedule: NoiseSchedule) -> float:
    """The fractional timestep at which training had this sigma."""
    return float(timesteps_of(np.array([sigma]), noise_schedule)[0])


def check_steps(steps: int, first_step: int, noise_schedule: NoiseSchedule) -> None:
    """Refuse numbers of steps that no sampler can take.

    Raises:
        SettingError: there are no steps or more than in training, or the first one is not
            among them.
    """
    most = noise_schedule.num_train_timesteps
    if not 1 <= steps <= most:
        raise SettingError(f"{steps} steps are not possible; choose 1 to {most}.")
    if not 0 <= first_step < steps:
        raise SettingError(f"A run of {steps} steps has no step {first_step} to start at.")


def _end_at_zero(sigmas: Float64Array) -> Float64Array:
    return _through_float32(np.append(sigmas, 0.0))


def _through_float32(values: Float64Array) -> Float64Array:
    return values.astype(np.float32).astype(np.float64)
