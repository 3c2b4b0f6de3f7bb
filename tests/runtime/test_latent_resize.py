"""Resized latents against torch."""

import numpy as np
import pytest
import torch

from runtime.latent_resize import METHODS, resize_latents


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(16, 16), (12, 20), (11, 13), (8, 10), (5, 30), (1, 1)])
def test_latents_are_resized_as_torch_does(method: str, size: tuple[int, int]) -> None:
    latents = np.random.default_rng(0).normal(size=(4, 8, 10)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(latents)[None],
        size=size,
        mode=method,
        align_corners=None if method == "nearest" else False,
    )[0].numpy()
    resized = resize_latents(latents, *size, method)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, wanted, atol=1e-5)


def test_the_nearest_latents_are_torchs_at_every_size() -> None:
    """Torch reckons in float32: from 64 to 82, the place of 41 falls just below 32."""
    sizes = [1, 2, 3, 5, 7, 8, 11, 13, 16, 29, 48, 63, *range(64, 100), 128, 151, 256, 1000]
    for before in sizes:
        latents = np.arange(before, dtype=np.float32).reshape(1, 1, before)
        for after in sizes:
            wanted = torch.nn.functional.interpolate(
                torch.from_numpy(latents)[None], size=(1, after), mode="nearest"
            )[0].numpy()
            np.testing.assert_array_equal(resize_latents(latents, 1, after, "nearest"), wanted)
