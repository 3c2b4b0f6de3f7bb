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

from runtime.arrays import Float32Array, Float64Array

Words = NDArray[np.uint64]
"""Words of 32 bits, each in 64, where their products have room."""

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW = 0xFFFFFFFF
_HIGH = 32
_STEP = 2.0**-32

_BLOCK = 8192
"""Values that are drawn at once: few enough for what that needs to stay in the cache."""

_INDICES = np.arange(_BLOCK, dtype=np.uint64)


class PhiloxNoise:
    """The stream of normal noise that torch's CUDA generator gives for one seed.

    Each draw continues where the last one ended, as `torch.randn(shape, generator=generator)` does
    on a CUDA device. Values agree to the rounding of the logarithm and sine (1e-6; where a value
    is next to nothing because its first word is next to 2**32, 1e-4).
    """

    def __init__(self, seed: int) -> None:
        """Start the stream of `seed`, 0 to 2**64 - 1."""
        self._key = (seed & _LOW, seed >> 32)
        self._offset = 0
        self._words = np.empty((4, _BLOCK), np.uint64)
        self._scratch = np.empty((2, _BLOCK), np.uint64)

    def draw(self, shape: tuple[int, ...]) -> Float32Array:
        """Draw standard normal float32 noise of `shape`, of fewer than 2**32 values."""
        values = np.empty(shape, np.float32)
        self.draw_into(values)
        return values

    def draw_into(self, out: Float32Array) -> None:
        """Fill `out`, which is C-contiguous, with what `draw` gives, without allocating."""
        values = out.reshape(-1)
        for begin in range(0, len(values), _BLOCK):
            block = values[begin : begin + _BLOCK]
            words, scratch = self._words[:, : len(block)], self._scratch[:, : len(block)]
            words[0] = self._offset
            words[1::2] = 0
            np.add(_INDICES[: len(block)], begin, out=words[2])
            philox4x32(words, self._key, scratch)
            _normal(words[:2], block, scratch.view(np.float64))
        self._offset += bool(len(values))


def philox4x32(words: Words, key: tuple[int, int], scratch: Words) -> None:
    """Philox 4x32 with ten rounds, in place.

    Args:
        words: [4, n], n counters, the lowest word first; overwritten with the random words.
        key: two words of 32 bits, the lowest first.
        scratch: [2, n], overwritten.
    """
    a, b, c, d = words
    left, right = scratch
    low, high = key
    for _ in range(_ROUNDS):
        np.multiply(a, _MULTIPLIERS[0], out=left)
        np.multiply(c, _MULTIPLIERS[1], out=right)
        np.right_shift(right, _HIGH, out=a)
        a ^= b
        a ^= low
        np.right_shift(left, _HIGH, out=c)
        c ^= d
        c ^= high
        np.bitwise_and(right, _LOW, out=b)
        np.bitwise_and(left, _LOW, out=d)
        low, high = (low + _WEYL[0]) & _LOW, (high + _WEYL[1]) & _LOW


def _normal(words: Words, out: Float32Array, scratch: Float64Array) -> None:
    """The sine half of the Box-Muller transform, as cuRAND has it, computed in float64.

    The uniform values are 2**-32 (word + 1/2), so that their logarithm is finite.

    Args:
        words: [2, n], the first two random words of each value.
        out: [n], the values.
        scratch: [2, n], overwritten.
    """
    np.copyto(scratch, words)
    scratch += 0.5
    radius, angle = scratch
    radius *= _STEP
    np.log(radius, out=radius)
    radius *= -2
    np.sqrt(radius, out=radius)
    angle *= 2 * math.pi * _STEP
    np.sin(angle, out=angle)
    radius *= angle
    out[...] = radius
