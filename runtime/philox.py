"""Noise from a seed, as torch's CUDA generator and the webui's sources GPU and NV draw it.

The generator is Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy
as 1, 2, 3", SC 2011). cuRAND lays its 128-bit counter out as (offset, 0, subsequence), 64 bits
each half, with the seed as the key. torch.randn on a CUDA device gives each element a subsequence
of its own and each call the next offset; of the counter's four words the first two make one normal
value.

So it is on a GPU as long as it has a thread for each element. Beyond that (from some 46 thousand
elements on a small GPU, 221 thousand on an A100) a thread of the GPU makes several elements, and
the same seed gives other noise on other GPUs; here, as in the webui's NV, it stays the same.
"""

import math

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(32)
_STEP = 2.0**-32


class PhiloxNoise:
    """The stream of normal noise that torch's CUDA generator gives for one seed.

    Each draw continues where the last one ended, as `torch.randn(shape, generator=generator)` does
    on a CUDA device. Values agree to the rounding of the logarithm and sine (1e-6; where a value
    is next to nothing because its first word is next to 2**32, 1e-4).
    """

    def __init__(self, seed: int) -> None:
        """Start the stream of `seed`, 0 to 2**64 - 1."""
        self._key = (seed & 0xFFFFFFFF, seed >> 32)
        self._offset = 0

    def draw(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Draw standard normal float32 noise of `shape`, of fewer than 2**32 values."""
        count = math.prod(shape)
        if not count:
            return np.empty(shape, np.float32)
        counter = np.zeros((4, count), np.uint32)
        counter[0] = self._offset
        counter[2] = np.arange(count)
        self._offset += 1
        first, second, *_ = philox4x32(counter, self._key)
        return _normal(first, second).reshape(shape)


def philox4x32(counter: Words, key: tuple[int, int]) -> Words:
    """Philox 4x32 with ten rounds.

    Args:
        counter: [4, n], n counters, the lowest word first.
        key: two words of 32 bits, the lowest first.

    Returns:
        [4, n], the random words.
    """
    a, b, c, d = counter.astype(np.uint64)
    low, high = key
    for turn in range(_ROUNDS):
        left, right = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        first = np.uint64((low + turn * _WEYL[0]) & 0xFFFFFFFF)
        second = np.uint64((high + turn * _WEYL[1]) & 0xFFFFFFFF)
        a, b, c, d = (
            (right >> _HIGH) ^ b ^ first,
            right & _LOW,
            (left >> _HIGH) ^ d ^ second,
            left & _LOW,
        )
    return np.stack([a, b, c, d]).astype(np.uint32)


def _normal(first: Words, second: Words) -> NDArray[np.float32]:
    """The sine half of the Box-Muller transform, as cuRAND has it, computed in float64.

    The uniform values are 2**-32 (word + 1/2), so that their logarithm is finite.
    """
    uniform = (first + 0.5) * _STEP
    angle = (second + 0.5) * (2 * math.pi * _STEP)
    values: NDArray[np.float64] = np.sqrt(-2 * np.log(uniform)) * np.sin(angle)
    return values.astype(np.float32)
