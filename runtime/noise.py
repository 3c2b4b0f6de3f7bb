"""Noise from a seed, as torch's CPU generator draws it: the seed means the same picture there.

The generator is the Mersenne Twister MT19937 (Matsumoto and Nishimura, 1998), initialised with
the low 32 bits of the seed; normal values come from the Box-Muller transform. The layout is that
of aten/src/ATen/native/cpu/DistributionTemplates.h (`normal_fill`) and
aten/src/ATen/core/DistributionsHelper.h (`normal_distribution`) in PyTorch.
"""

import math

import numpy as np
from numpy.typing import NDArray

from engines.errors import SettingError

_BLOCK = 16
_HALF = _BLOCK // 2
_TWO_PI = np.float32(2 * math.pi)


class TorchCpuNoise:
    """The stream of normal noise that torch's CPU generator gives for one seed.

    Each draw continues where the last one ended, as `torch.randn(shape, generator=generator)`
    does. Values agree with torch's to the rounding of its logarithm, sine and cosine (1e-6).
    """

    def __init__(self, seed: int) -> None:
        """Start the stream of `seed`, 0 to 2**64 - 1, of which torch uses the low 32 bits.

        Raises:
            SettingError: the seed is out of range.
        """
        if not 0 <= seed < 2**64:
            raise SettingError(f"The seed {seed} is not possible; choose 0 to {2**64 - 1}.")
        self._words = np.random.RandomState(seed & 0xFFFFFFFF)
        self._spare: float | None = None

    def draw(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Draw standard normal float32 noise of `shape`."""
        count = math.prod(shape)
        values = self._few(count) if count < _BLOCK else self._many(count)
        return values.reshape(shape)

    def _many(self, count: int) -> NDArray[np.float32]:
        """Blocks of 16; a tail that fills no block is drawn anew together with what precedes it."""
        tail = count % _BLOCK
        uniform = self._uniform(count)
        blocks = _box_muller(uniform[: count - tail])
        if not tail:
            return blocks
        values = np.empty(count, np.float32)
        values[: count - tail] = blocks
        values[-_BLOCK:] = _box_muller(self._uniform(_BLOCK))
        return values

    def _uniform(self, count: int) -> NDArray[np.float32]:
        """Float32 values in [0, 1) from 24 bits each."""
        words = self._words.randint(0, 2**32, count, np.uint32)
        return (words & np.uint32(0xFFFFFF)).astype(np.float32) * np.float32(2**-24)

    def _few(self, count: int) -> NDArray[np.float32]:
        """Fewer than 16 values come one by one, in pairs of float64, the second kept for later."""
        values = np.empty(count, np.float32)
        for index in range(count):
            if self._spare is not None:
                values[index], self._spare = self._spare, None
                continue
            angle = 2 * math.pi * self._uniform_double()
            radius = math.sqrt(-2 * math.log1p(-self._uniform_double()))
            values[index] = radius * math.cos(angle)
            self._spare = radius * math.sin(angle)
        return values

    def _uniform_double(self) -> float:
        high, low = self._words.randint(0, 2**32, 2, np.uint32).tolist()
        return float((high << 32 | low) & (2**53 - 1)) * 2.0**-53


def _box_muller(uniform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normal values from uniform ones; in each block of 16, place i pairs with place i + 8."""
    blocks = uniform.reshape(-1, 2, _HALF)
    radius = np.sqrt(np.float32(-2) * np.log(np.float32(1) - blocks[:, 0]))
    angle = _TWO_PI * blocks[:, 1]
    values = np.empty_like(blocks)
    np.multiply(radius, np.cos(angle), out=values[:, 0])
    np.multiply(radius, np.sin(angle), out=values[:, 1])
    return values.reshape(-1)
