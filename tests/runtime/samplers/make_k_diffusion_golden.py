"""Write k_diffusion.json: runs of k-diffusion's samplers in float64, for test_k_diffusion.py.

    pip install k-diffusion==0.1.1.post1
    python -m tests.runtime.samplers.make_k_diffusion_golden

Every sampler runs over the same sigmas, from the same start, with the same independent noises
and the same model. Kept are the inputs of every call of the model, and the end.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.schedules import fractional_grid
from tests.runtime.samplers.reference import SD15

PATH = Path(__file__).with_name("k_diffusion.json")
STEPS = 7
SIZE = 5
SAMPLERS = {
    "DPM++ 2S a": "sample_dpmpp_2s_ancestral",
    "DPM++ SDE": "sample_dpmpp_sde",
    "DPM++ 2M SDE": "sample_dpmpp_2m_sde",
    "DPM++ 3M SDE": "sample_dpmpp_3m_sde",
    "Euler a": "sample_euler_ancestral",
    "LMS": "sample_lms",
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


def run(sample: Callable[..., torch.Tensor], start: Any, noises: Any, sigmas: Any) -> Any:
    calls = []

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        scaled = x / (sigma[0] ** 2 + 1) ** 0.5
        calls.append(scaled[0].tolist())
        return x - sigma[0] * model(scaled)

    options: dict[str, Any] = {"disable": True}
    if sample.__name__ != "sample_lms":
        options["noise_sampler"] = BrownianNoise(noises)
    end = sample(denoise, start[None] * sigmas[0], sigmas, **options)
    return {"calls": calls, "end": end[0].tolist()}


def main() -> None:
    import k_diffusion.sampling  # type: ignore[import-not-found]

    sigmas = torch.from_numpy(
        fractional_grid(NoiseSchedule.from_config(SD15), "karras", STEPS).sigmas
    )
    values = np.random.default_rng(11).normal(size=(2 * STEPS + 1, SIZE))
    start, noises = torch.from_numpy(values[0]), torch.from_numpy(values[1:])
    golden: dict[str, Any] = {
        "sigmas": sigmas.tolist(),
        "start": start.tolist(),
        "noises": noises.tolist(),
        "samplers": {
            name: run(getattr(k_diffusion.sampling, function), start, noises, sigmas)
            for name, function in SAMPLERS.items()
        },
    }
    PATH.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
