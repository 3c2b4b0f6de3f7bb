"""Fusing for a test: ours to float tensors, and diffusers' of the same files."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from convert.fuse import run_fuse
from convert.fuse_plan import plan_fuse
from convert.model import WEIGHT_FILES
from convert.recipe import Recipe, RecipeLora
from tests.convert.synthetic import Tensors


@dataclass(frozen=True)
class Fused:
    """The tensors of a fused model, by component."""

    unet: Tensors
    text_encoder: Tensors
    vae: Tensors


def fuse(recipe: Recipe, out: Path, weights: list[float], **options: Any) -> Fused:
    run_fuse(plan_fuse(recipe, weights, **options), out, force=False, progress=False)
    return load_fused(out)


def load_fused(out: Path) -> Fused:
    return Fused(**{name: load_file(out / file) for name, file in WEIGHT_FILES.items()})


def recipe_of(base: Path, *loras: Path) -> Recipe:
    return Recipe("x", str(base), tuple(RecipeLora(p.stem, str(p), 1.0) for p in loras))


def assert_rounded_once(half: torch.Tensor, exact: torch.Tensor, name: str) -> None:
    """A float16 tensor is no further from the oracle's than one rounding leaves it.

    The sums themselves may differ by 1e-6, as CPUs add up in different orders: where one lies that
    near to the middle of two float16 numbers, either is right.
    """
    assert half.dtype == torch.float16
    unit = np.spacing(half.abs().numpy()).astype(np.float64)
    error = np.abs(half.numpy().astype(np.float64) - exact.numpy().astype(np.float64))
    assert (error <= unit / 2 + 1e-6).all(), name


def fuse_with_diffusers(
    base: Path, loras: tuple[Path, ...], weights: list[float], components: list[str]
) -> Fused:
    """What diffusers makes of the same files, in float32."""
    from diffusers import StableDiffusionPipeline

    with warnings.catch_warnings():
        # diffusers and peft warn of their own deprecations and of a second adapter
        warnings.simplefilter("ignore")
        pipeline = StableDiffusionPipeline.from_pretrained(base, torch_dtype=torch.float32)
        names = [f"adapter_{i}" for i in range(len(loras))]
        for name, path in zip(names, loras, strict=True):
            pipeline.load_lora_weights(path, adapter_name=name)
        pipeline.set_adapters(names, weights)
        pipeline.fuse_lora(adapter_names=names, components=components)
        pipeline.unload_lora_weights()
    text_encoder = pipeline.text_encoder.state_dict()
    return Fused(
        pipeline.unet.state_dict(),
        {f"text_model.{n.removeprefix('text_model.')}": t for n, t in text_encoder.items()},
        pipeline.vae.state_dict(),
    )
