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
from runtime.arrays import Float32Array

_GROUP = 16
_HALF = np.dtype("V32")
"""Half a group, eight float32 values, moved as one."""

_TWO_PI = np.float32(2 * math.pi)

_BLOCK = 8192
"""Values that are drawn at once: few enough for what that needs to stay in the cache."""


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
        self._scratch = np.empty((3, _BLOCK // 2), np.float32)

    def draw(self, shape: tuple[int, ...]) -> Float32Array:
        """Draw standard normal float32 noise of `shape`."""
        values = np.empty(shape, np.float32)
        self.draw_into(values)
        return values

    def draw_into(self, out: Float32Array) -> None:
        """Fill `out`, which is C-contiguous, with what `draw` gives.

        numpy gives random words as new arrays only; these are of 32 KB at most.
        """
        values = out.reshape(-1)
        if len(values) < _GROUP:
            self._few(values)
        else:
            self._many(values)

    def _many(self, out: Float32Array) -> None:
        """Groups of 16; a tail that fills no group is drawn anew together with what precedes it."""
        tail = len(out) % _GROUP
        groups = out[: len(out) - tail]
        for begin in range(0, len(groups), _BLOCK):
            self._groups(groups[begin : begin + _BLOCK])
        if tail:
            self._random_words(tail)
            self._groups(out[-_GROUP:])

    def _groups(self, out: Float32Array) -> None:
        """Draw up to `_BLOCK` values, a multiple of 16.

        Uniform values in [0, 1) of 24 bits each become normal; in a group, place i pairs with
        place i + 8.
        """
        words = self._random_words(len(out))
        words &= 0xFFFFFF
        np.copyto(out, words.view(np.int32))
        out *= 2.0**-24
        halves = out.view(_HALF).reshape(-1, 2)
        radius, angle, cosine = self._scratch[:, : len(out) // 2]
        radius.view(_HALF)[:] = halves[:, 0]
        angle.view(_HALF)[:] = halves[:, 1]
        np.subtract(1, radius, out=radius)
        np.log(radius, out=radius)
        radius *= -2
        np.sqrt(radius, out=radius)
        angle *= _TWO_PI
        np.cos(angle, out=cosine)
        cosine *= radius
        np.sin(angle, out=angle)
        angle *= radius
        halves[:, 0] = cosine.view(_HALF)
        halves[:, 1] = angle.view(_HALF)

    def _random_words(self, count: int) -> NDArray[np.uint32]:
        return self._words.randint(0, 2**32, count, np.uint32)

    def _few(self, out: Float32Array) -> None:
        """Fewer than 16 values come one by one, in pairs of float64, the second kept for later."""
        for index in range(len(out)):
            if self._spare is not None:
                out[index], self._spare = self._spare, None
                continue
            angle = 2 * math.pi * self._uniform_double()
            radius = math.sqrt(-2 * math.log1p(-self._uniform_double()))
            out[index] = radius * math.cos(angle)
            self._spare = radius * math.sin(angle)

    def _uniform_double(self) -> float:
        high, low = self._random_words(2).tolist()
        return float((high << 32 | low) & (2**53 - 1)) * 2.0**-53
