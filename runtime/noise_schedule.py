"""How much noise the model was trained to see at each timestep: scheduler/scheduler_config.json.

The values are those of diffusers, which computes them in float32; what samplers derive from them
is computed in float64.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from engines.errors import BundleError
from runtime.arrays import Float32Array, Float64Array

_UNSUPPORTED = ("trained_betas", "rescale_betas_zero_snr", "thresholding")
_BETA_SCHEDULES = ("scaled_linear", "linear")
_SPACINGS = ("leading", "linspace", "trailing")


@dataclass(frozen=True)
class NoiseSchedule:
    """The training noise schedule of an epsilon-predicting model, as diffusers' configs give it.

    `timestep_spacing` and `set_alpha_to_one` are None where the file leaves them out: then each
    sampler takes the default of diffusers' scheduler of that name.
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    steps_offset: int = 0
    timestep_spacing: str | None = None
    set_alpha_to_one: bool | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Read the values of a scheduler_config.json; what it leaves out is diffusers' default.

        Raises:
            BundleError: a value that this runtime has no samplers for; the message names all.
        """
        faults = [f"{name} is set" for name in _UNSUPPORTED if config.get(name)]
        for name, allowed in (
            ("prediction_type", ("epsilon",)),
            ("beta_schedule", _BETA_SCHEDULES),
            ("timestep_spacing", _SPACINGS),
        ):
            if name in config and config[name] not in allowed:
                faults.append(f"{name} is {config[name]!r}, not {' or '.join(allowed)}")
        for name, kind in (
            ("num_train_timesteps", int),
            ("steps_offset", int),
            ("beta_start", float),
            ("beta_end", float),
            ("set_alpha_to_one", bool),
        ):
            if name in config and type(config[name]) is not kind:
                faults.append(f"{name} is {config[name]!r}, not of the type {kind.__name__}")
        schedule = cls(**{name: config[name] for name in cls.__match_args__ if name in config})
        if not faults and not 0 < schedule.beta_start < schedule.beta_end < 1:
            faults.append(f"betas rise from {schedule.beta_start} to {schedule.beta_end}")
        if not faults and schedule.num_train_timesteps < 2:
            faults.append(f"num_train_timesteps is {schedule.num_train_timesteps}")
        if faults:
            raise BundleError(
                f"The model's noise schedule is not one that this runtime samples: "
                f"{'; '.join(faults)}. Use a model of the Stable Diffusion 1.5 family."
            )
        return schedule

    @cached_property
    def alphas_cumprod(self) -> Float64Array:
        """The product of (1 - beta) up to each timestep, [num_train_timesteps]."""
        if self.beta_schedule == "scaled_linear":
            betas = _linspace(self.beta_start**0.5, self.beta_end**0.5, self.num_train_timesteps)
            betas = betas**2
        else:
            betas = _linspace(self.beta_start, self.beta_end, self.num_train_timesteps)
        alphas = np.float32(1) - betas
        return np.cumprod(alphas, dtype=np.float64).astype(np.float32).astype(np.float64)

    @property
    def last_timestep(self) -> int:
        """The timestep of most noise."""
        return self.num_train_timesteps - 1

    def alpha_at(self, timestep: int, *, ends_at_one: bool = True) -> float:
        """The cumulative alpha at a timestep, the last one's beyond it.

        Args:
            timestep: any; below 0 is the end of a run.
            ends_at_one: whether that is no noise at all or timestep 0's, where the model's
                configuration does not say.
        """
        if timestep >= 0:
            return float(self.alphas_cumprod[min(timestep, self.last_timestep)])
        set_to_one = self.set_alpha_to_one
        one = ends_at_one if set_to_one is None else set_to_one
        return 1.0 if one else float(self.alphas_cumprod[0])

    @cached_property
    def sigmas(self) -> Float64Array:
        """The noise-to-signal ratio at each timestep, rising, [num_train_timesteps]."""
        alphas_cumprod = self.alphas_cumprod.astype(np.float32)
        ratio = (np.float32(1) - alphas_cumprod) / alphas_cumprod
        sigmas: Float64Array = np.sqrt(ratio).astype(np.float64)
        return sigmas


def read_noise_schedule(path: Path) -> NoiseSchedule:
    """Read a scheduler_config.json.

    Raises:
        BundleError: it is not there, is no JSON object, or has values that have no sampler here.
    """
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}. Export the bundle again.") from error
    if not isinstance(config, dict):
        raise BundleError(f"{path} is not a scheduler's configuration. Export the bundle again.")
    return NoiseSchedule.from_config(config)


def _linspace(start: float, stop: float, count: int) -> Float32Array:
    """torch.linspace in float32, bit for bit.

    torch works from both ends towards the middle with fused multiply-adds; computing those in
    float64 and rounding once gives the same.
    """
    first, last = np.float32(start), np.float32(stop)
    step = np.float64(np.float32((last - first) / np.float32(count - 1)))
    index = np.arange(count)
    rising = np.float64(first) + step * index
    falling = np.float64(last) - step * (count - 1 - index)
    return np.where(index < count // 2, rising, falling).astype(np.float32)
