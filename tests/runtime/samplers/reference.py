"""diffusers' schedulers as the oracle, made to compute in float64.

A scheduler here keeps its own float32 timesteps and sigmas, but what it makes of them it
computes in float64: the name `torch` inside its module is replaced by one whose `float32` is
float64. Its noise comes from outside. So only the last bits of the sigmas differ.
"""

import copy
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray

from runtime.samplers.table import Table

Floats = NDArray[np.float64]
Model = Callable[[Floats, float], Floats]

SD15: dict[str, Any] = {
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
}
"""scheduler_config.json of Stable Diffusion 1.5 as diffusers writes it today."""

OPTIONS: dict[str, dict[str, Any]] = {
    "model": {},
    "leading": {"timestep_spacing": "leading"},
    "linspace": {"timestep_spacing": "linspace"},
    "trailing": {"timestep_spacing": "trailing"},
    "karras": {"use_karras_sigmas": True, "timestep_spacing": "linspace"},
    "exponential": {"use_exponential_sigmas": True, "timestep_spacing": "linspace"},
    "beta": {"use_beta_sigmas": True, "timestep_spacing": "linspace"},
}
"""How diffusers spells each schedule; on others it is given the sigmas."""


class _Float64Torch:
    """The module torch, with float64 under the name float32 and for arrays of float32."""

    float32 = torch.float64

    def from_numpy(self, array: NDArray[Any]) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        return tensor.double() if tensor.dtype == torch.float32 else tensor

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def _scheduler(class_name: str, config: dict[str, Any], options: dict[str, Any]) -> Any:
    """What a pipeline makes of its scheduler_config.json; some classes take long to build."""
    key = (class_name, tuple(sorted(config.items())), tuple(sorted(options.items())))
    return copy.deepcopy(_built(*key))


@functools.cache
def _built(class_name: str, config: tuple[Any, ...], options: tuple[Any, ...]) -> Any:
    saved = diffusers.PNDMScheduler.from_config(dict(config))
    return getattr(diffusers, class_name).from_config(saved.config, **dict(options))


def _give_sigmas(scheduler: Any, sigmas: Floats | None) -> None:
    """Let the scheduler take these instead of exponential ones."""
    if sigmas is not None:
        scheduler._convert_to_exponential = lambda **_: sigmas.copy()


def _timesteps_of(sigmas: Floats, alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """The timesteps that a scheduler of integers would round, with their fractions."""
    trained = (((1 - alphas_cumprod) / alphas_cumprod) ** 0.5).log().numpy()
    timesteps = np.interp(np.log(sigmas), trained, np.arange(len(trained)))
    return torch.from_numpy(timesteps)


class Reference:
    """A diffusers scheduler, set up for one run."""

    def __init__(
        self,
        class_name: str,
        config: dict[str, Any],
        options: dict[str, Any],
        steps: int,
        first_step: int = 0,
        grid_of: str | None = None,
        sliced: bool = False,
        sigmas: Floats | None = None,
        step_options: dict[str, Any] | None = None,
    ) -> None:
        """Set up `class_name`.

        With the grid of the class `grid_of`, where its own knows fewer schedules; where its way
        to start late is wrong, with its grid `sliced` instead; and where `sigmas` are given,
        with them before the end of the run. `step_options` go to every call of `step`.
        """
        if sigmas is not None:
            options = options | {"use_exponential_sigmas": True, "timestep_spacing": "linspace"}
        self.scheduler = _scheduler(class_name, config, options)
        self._step_options = step_options or {}
        _give_sigmas(self.scheduler, sigmas)
        with self._in_float64(iter(())):
            self.scheduler.set_timesteps(steps)
        if sigmas is not None and not self.scheduler.timesteps.is_floating_point():
            self.scheduler.timesteps = _timesteps_of(sigmas, self.scheduler.alphas_cumprod)
        if grid_of is not None:
            other = _scheduler(grid_of, config, options)
            _give_sigmas(other, sigmas)
            other.set_timesteps(steps)
            self.scheduler.timesteps, self.scheduler.sigmas = other.timesteps, other.sigmas.double()
        self.initial_noise_scale = float(self.scheduler.init_noise_sigma)
        first_row = first_step * self.scheduler.order
        if sliced:
            self.scheduler.timesteps = self.scheduler.timesteps[first_row:]
            self.scheduler.sigmas = self.scheduler.sigmas[first_row:]
            first_row = 0
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(first_row)
        self.timesteps = self.scheduler.timesteps[first_row:]
        self.scheduler.alphas_cumprod = self.scheduler.alphas_cumprod.double()

    def start(self) -> tuple[float, float]:
        """The factors of latent and noise in diffusers' add_noise at the first row."""
        unit = torch.eye(2, dtype=torch.float64)
        noisy = self.scheduler.add_noise(unit[:1], unit[1:], self.timesteps[:1])
        return float(noisy[0, 0]), float(noisy[0, 1])

    def run(self, x: Floats, model: Model, noises: Sequence[Floats]) -> Iterator[Floats]:
        """Yield x after every call of `model`, which is given the scaled input and the timestep.

        The i-th draw of noise takes `noises[i]`.
        """
        draws = iter(noises)
        sample = torch.from_numpy(x)
        for timestep in self.timesteps:
            with self._in_float64(draws):
                scaled = self.scheduler.scale_model_input(sample, timestep)
                prediction = torch.from_numpy(model(scaled.numpy(), float(timestep)))
                sample = self.scheduler.step(
                    prediction, timestep, sample, return_dict=False, **self._step_options
                )[0]
            yield sample.numpy()

    @contextmanager
    def _in_float64(self, draws: Iterator[Floats]) -> Iterator[None]:
        module = sys.modules[type(self.scheduler).__module__]

        def draw(*_arguments: Any, **_options: Any) -> torch.Tensor:
            return torch.from_numpy(next(draws))

        with (
            mock.patch.object(module, "torch", _Float64Torch()),
            mock.patch.object(module, "randn_tensor", draw, create=True),
        ):
            yield


def run_table(table: Table, x: Floats, model: Model, noises: Sequence[Floats]) -> Iterator[Floats]:
    """Yield x after every row of `table`, in float64."""
    draws = iter(noises)
    state = np.zeros((table.entries, *x.shape))
    state[0] = x if table.first_noise is None else x + table.first_noise * next(draws)
    for row in range(table.rows):
        prediction = model(state[0] * table.input_scale[row], table.timesteps[row])
        noise = next(draws) if table.draws_noise[row] else np.zeros_like(x)
        terms = np.stack([*state, prediction, noise])
        state = np.tensordot(table.coefficients[row], terms, 1)
        yield state[0]
