"""float16 to float32, of whole arrays.

numpy converts number by number where the processor has no float16 arithmetic: 23 to 34
microseconds for the prediction of a picture of 64x64 latents on the EPYC of benchmarks/results,
which has none. The six operations on whole arrays here take 11.
"""

import numpy as np
from numpy.typing import NDArray

from runtime.arrays import Float32Array

_LONGER = 13
"""The bits that a float32's mantissa has more."""

_PLACES = np.int32(-0x70002000)
"""Sign, five bits of exponent and ten of mantissa, where they stand in a float32."""

_REBIAS = np.float32(2.0**112)
"""A float32's exponent is biased by 127, a float16's by 15."""


def widen(values: NDArray[np.float16], out: Float32Array) -> None:
    """Do what `out[...] = values` does, bit for bit; only what is no number becomes infinite.

    Args:
        values: any shape.
        out: of that shape.
    """
    bits = out.view(np.int32)
    bits[...] = values.view(np.int16)
    np.left_shift(bits, _LONGER, out=bits)
    np.bitwise_and(bits, _PLACES, out=bits)
    with np.errstate(over="ignore"):
        out *= _REBIAS
        out *= _REBIAS  # only the highest exponent overflows, which stands for no finite number
        out /= _REBIAS
