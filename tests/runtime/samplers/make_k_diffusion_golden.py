"""Write k_diffusion.json: runs of k-diffusion's samplers in float64, for test_k_diffusion.py.

    pip install k-diffusion==0.1.1.post1
    python -m tests.runtime.samplers.make_k_diffusion_golden

Every sampler runs over the same sigmas, from the same start, with the same independent noises
and the same model. Kept are the inputs of every call of the model, and the end; and the sigmas of
the schedule that k-diffusion itself takes.
"""

import inspect
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.schedules import fractional_grid
from tests.runtime.samplers.reference import SD15

PATH = Path(__file__).with_name("k_diffusion.json")
STEPS = 7
SIZE = 5


@dataclass(frozen=True)
class Run:
    """One of our samplers, k-diffusion's function for it, and that function's options."""

    sampler: str
    function: str
    options: dict[str, Any] = field(default_factory=dict)


CHURN = {"s_churn": 2.0, "s_noise": 1.003}
LIMITED = {"s_churn": 4.0, "s_tmin": 0.3, "s_tmax": 5.0}
SOME = {"eta": 0.6, "s_noise": 1.1}
HEUN = {"solver_type": "heun"}
RUNS = {
    "DPM++ 2S a": Run("DPM++ 2S a", "sample_dpmpp_2s_ancestral"),
    "DPM++ 2S a, less": Run("DPM++ 2S a", "sample_dpmpp_2s_ancestral", SOME),
    "DPM++ SDE": Run("DPM++ SDE", "sample_dpmpp_sde"),
    "DPM++ SDE, less": Run("DPM++ SDE", "sample_dpmpp_sde", SOME),
    "DPM++ SDE, none": Run("DPM++ SDE", "sample_dpmpp_sde", {"eta": 0.0}),
    "DPM++ 2M": Run("DPM++ 2M", "sample_dpmpp_2m"),
    "DPM++ 2M SDE": Run("DPM++ 2M SDE", "sample_dpmpp_2m_sde"),
    "DPM++ 2M SDE, less": Run("DPM++ 2M SDE", "sample_dpmpp_2m_sde", SOME),
    "DPM++ 2M SDE, none": Run("DPM++ 2M SDE", "sample_dpmpp_2m_sde", {"eta": 0.0}),
    "DPM++ 2M SDE Heun": Run("DPM++ 2M SDE Heun", "sample_dpmpp_2m_sde", HEUN),
    "DPM++ 2M SDE Heun, less": Run("DPM++ 2M SDE Heun", "sample_dpmpp_2m_sde", SOME | HEUN),
    "DPM++ 3M SDE": Run("DPM++ 3M SDE", "sample_dpmpp_3m_sde"),
    "DPM++ 3M SDE, less": Run("DPM++ 3M SDE", "sample_dpmpp_3m_sde", SOME),
    "DPM++ 3M SDE, none": Run("DPM++ 3M SDE", "sample_dpmpp_3m_sde", {"eta": 0.0}),
    "Euler": Run("Euler", "sample_euler"),
    "Euler, churn": Run("Euler", "sample_euler", CHURN),
    "Euler, limited churn": Run("Euler", "sample_euler", LIMITED),
    "Euler a": Run("Euler a", "sample_euler_ancestral"),
    "Euler a, less": Run("Euler a", "sample_euler_ancestral", SOME),
    "Euler a, none": Run("Euler a", "sample_euler_ancestral", {"eta": 0.0}),
    "Heun": Run("Heun", "sample_heun"),
    "Heun, churn": Run("Heun", "sample_heun", CHURN),
    "Heun, limited churn": Run("Heun", "sample_heun", LIMITED),
    "DPM2": Run("DPM2", "sample_dpm_2"),
    "DPM2, churn": Run("DPM2", "sample_dpm_2", CHURN),
    "DPM2, limited churn": Run("DPM2", "sample_dpm_2", LIMITED),
    "DPM2 a": Run("DPM2 a", "sample_dpm_2_ancestral"),
    "DPM2 a, less": Run("DPM2 a", "sample_dpm_2_ancestral", SOME),
    "LMS": Run("LMS", "sample_lms"),
}


def model(scaled: torch.Tensor) -> torch.Tensor:
    return torch.tanh(1.3 * scaled) + 0.2 * scaled.roll(1)


class BrownianNoise:
    """Increments of a Brownian motion over sigma, scaled to unit variance.

    An interval that begins where the last one did contains it.
    """

    def __init__(self, noises: torch.Tensor) -> None:
        self._noises = iter(noises.unbind())
        self._last = (-1.0, -1.0, torch.empty(0))

    def __call__(self, sigma: torch.Tensor, sigma_next: torch.Tensor) -> torch.Tensor:
        begin, end = float(sigma), float(sigma_next)
        first_begin, middle, first = self._last
        fresh = next(self._noises)
        if abs(begin - first_begin) > 1e-9:
            self._last = (begin, end, fresh)
        else:
            share = (begin - middle) / (begin - end)
            fresh = math.sqrt(share) * first + math.sqrt(1 - share) * fresh
        return fresh


def run(run: Run, start: Any, noises: Any, sigmas: Any) -> Any:
    """Samplers with churn draw one noise a step, whether they use it or not."""
    import k_diffusion.sampling  # type: ignore[import-not-found]

    calls = []

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        scaled = x / (sigma[0] ** 2 + 1) ** 0.5
        calls.append(scaled[0].tolist())
        return x - sigma[0] * model(scaled)

    sample = getattr(k_diffusion.sampling, run.function)
    options: dict[str, Any] = {"disable": True, **run.options}
    if "noise_sampler" in inspect.signature(sample).parameters:
        options["noise_sampler"] = BrownianNoise(noises)
    draws = iter(noises.unbind())
    with mock.patch.object(torch, "randn_like", side_effect=lambda _: next(draws)[None]):
        end = sample(denoise, start[None] * sigmas[0], sigmas, **options)
    return {"calls": calls, "end": end[0].tolist()}


def main() -> None:
    from k_diffusion.external import DiscreteSchedule  # type: ignore[import-not-found]

    noise_schedule = NoiseSchedule.from_config(SD15)
    sigmas = torch.from_numpy(fractional_grid(noise_schedule, "karras", STEPS).sigmas)
    values = np.random.default_rng(11).normal(size=(2 * STEPS + 1, SIZE))
    start, noises = torch.from_numpy(values[0]), torch.from_numpy(values[1:])
    schedule = DiscreteSchedule(torch.from_numpy(noise_schedule.sigmas), quantize=False)
    golden: dict[str, Any] = {
        "sigmas": sigmas.tolist(),
        "normal": schedule.get_sigmas(STEPS).tolist(),
        "start": start.tolist(),
        "noises": noises.tolist(),
        "runs": {name: run(each, start, noises, sigmas) for name, each in RUNS.items()},
    }
    PATH.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
