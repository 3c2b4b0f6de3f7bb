"""diffusers' pictures of the fused demo model, in float32 on the CPU, and how ours compare."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from runtime.arrays import Pixels
from runtime.pipeline import Pipeline
from runtime.request import Request

EXACT_DB = 60.0
"""Float32 rounding alone gives about 88 dB; the smallest mistake in test_parity.py gives 52."""

SIZE = (120, 104)
REQUEST = Request(
    "cracked skin, portrait of a woman, green skin, short hair",
    "beard, smooth skin",
    seed=21,
    steps=10,
    cfg=4.0,
    width=SIZE[0],
    height=SIZE[1],
)
"""What pictures that start from others ask for beside them."""

_SCHEDULERS: dict[str, tuple[str, dict[str, bool]]] = {
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "DPM++ 2M Karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "DDIM": ("DDIMScheduler", {"clip_sample": False}),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "Heun": ("HeunDiscreteScheduler", {}),
}

OURS = {name: _SCHEDULERS[name][0] for name in ("Euler a", "Heun")}
"""By the webui's names these would follow its schedules instead of the model's own."""


class Reference:
    """diffusers' pipelines on one set of networks."""

    def __init__(self, model: Path) -> None:
        self._model = model
        self._pictures: dict[Request, Pixels] = {}

    @cached_property
    def networks(self) -> Any:
        """A pipeline that holds them."""
        from diffusers import StableDiffusionPipeline

        pipeline = StableDiffusionPipeline.from_pretrained(
            self._model, dtype=torch.float32, safety_checker=None
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def run(self, kind: str, sampler: str, request: Request, **options: Any) -> Any:
        """What the pipeline `kind` returns as its first picture."""
        import diffusers

        scheduler, config = _SCHEDULERS[sampler]
        networks = self.networks
        pipeline = getattr(diffusers, kind)(
            **{name: part for name, part in networks.components.items() if name != "scheduler"},
            scheduler=getattr(diffusers, scheduler).from_config(
                networks.scheduler.config, **config
            ),
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        assert request.seed is not None
        given = {
            "num_inference_steps": request.steps,
            "generator": torch.Generator().manual_seed(request.seed),
        }
        result = pipeline(
            request.prompt,
            negative_prompt=request.negative,
            guidance_scale=request.cfg,
            **{**given, **options},
        )
        return result.images[0]

    def encode(self, picture: Image.Image, generator: torch.Generator) -> torch.Tensor:
        """The latents [1, C, h, w] of a picture whose sides are multiples."""
        networks = self.networks
        sample = networks.image_processor.preprocess(picture)
        with torch.no_grad():
            latents = networks.vae.encode(sample).latent_dist.sample(generator)
        scaled: torch.Tensor = latents * networks.vae.config.scaling_factor
        return scaled

    def picture(self, request: Request) -> Pixels:
        """The picture from noise of a request whose settings are all given; made once."""
        if request not in self._pictures:
            assert request.sampler is not None
            image = self.run(
                "StableDiffusionPipeline",
                request.sampler,
                request,
                width=request.width,
                height=request.height,
            )
            self._pictures[request] = np.asarray(image)
        return self._pictures[request]


def make(pipeline: Pipeline, request: Request) -> Pixels:
    """Our one picture of a request."""
    (picture,) = pipeline.generate(pipeline.settle([request]))
    return picture.pixels


def psnr(first: Pixels, second: Pixels) -> float:
    """The peak signal-to-noise ratio of two pictures in decibels; infinite where they are equal."""
    error = np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
