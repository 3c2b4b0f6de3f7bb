"""Noise against torch's own generator, and golden values that torch made."""

import numpy as np
import pytest
import torch

from engines.errors import SettingError
from runtime.noise import TorchCpuNoise

SEEDS = (0, 1, 42, 2**31, 2**32 - 1, 2**32, 2**40 + 5, 2**64 - 1)

GOLDEN = [1.9269153, 1.4872841, 0.90071717, -2.1055214]
"""torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(42))[0, 0, 0, :4] (2.13)"""


def test_golden_values() -> None:
    drawn = TorchCpuNoise(42).draw((1, 4, 64, 64))
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(drawn[0, 0, 0, :4], GOLDEN, atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "shapes",
    [
        [(1, 4, 64, 64), (1, 4, 64, 64), (4, 8, 8)],
        [(16,), (117,), (31,), (17,), (64,)],
        [(4, 96, 96), (8192,), (8193,), (24_591,), (5,)],
        [(1,), (3,), (15,), (16,), (5,), (20,), (1,)],
    ],
    ids=["latents", "tails", "blocks", "few"],
)
def test_the_stream_is_torchs(seed: int, shapes: list[tuple[int, ...]]) -> None:
    """Every draw continues the stream, whichever way torch fills its shape."""
    generator = torch.Generator().manual_seed(seed)
    noise = TorchCpuNoise(seed)
    for shape in shapes:
        wanted = torch.randn(shape, generator=generator).numpy()
        np.testing.assert_allclose(noise.draw(shape), wanted, rtol=0, atol=1e-6)


def test_nothing_drawn_draws_nothing() -> None:
    noise = TorchCpuNoise(3)
    assert noise.draw((0, 4)).shape == (0, 4)
    np.testing.assert_array_equal(noise.draw((4, 8)), TorchCpuNoise(3).draw((4, 8)))


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range(seed: int) -> None:
    with pytest.raises(SettingError, match=str(seed)):
        TorchCpuNoise(seed)
