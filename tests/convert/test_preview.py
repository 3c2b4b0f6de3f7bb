"""The map for previews against what diffusers' VAE makes of the same latents."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engines.bundle import open_bundle
from runtime.preview import preview


@pytest.fixture(scope="module")
def vae(fused_demo: Path) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_pretrained(fused_demo, subfolder="vae", torch_dtype=torch.float32)


def blocks(seed: int) -> torch.Tensor:
    """A picture [1, 3, 128, 128] of 16 flat colours in -1 to 1."""
    colours = torch.rand((1, 3, 4, 4), generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return colours.repeat_interleave(32, 2).repeat_interleave(32, 3)


@pytest.mark.parametrize("seed", range(4))
def test_a_preview_has_the_colours_of_the_decoded_picture(
    seed: int, vae: Any, demo_bundle_fp32: Path
) -> None:
    factors = open_bundle(demo_bundle_fp32).manifest.latents.preview
    with torch.no_grad():
        latents = vae.encode(blocks(seed)).latent_dist.mean
        decoded = vae.decode(latents).sample
    shown = preview(latents[0].numpy() * np.float32(vae.config.scaling_factor), factors)
    pooled = torch.nn.functional.avg_pool2d(decoded, 8)[0].clamp(-1, 1).permute(1, 2, 0).numpy()
    wanted = (pooled + 1) * 127.5
    assert shown.shape == (16, 16, 3)
    for channel in range(3):
        one, other = shown[..., channel].ravel(), wanted[..., channel].ravel()
        assert np.corrcoef(one.astype(float), other)[0, 1] > 0.9
    assert np.abs(shown - wanted).mean() < 25
