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
