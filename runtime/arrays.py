"""The arrays that go from part to part. What takes one says its shape."""

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]

Latents = Float32Array
"""Latents [C, h, w], or noise in their place."""

Pixels = NDArray[np.uint8]
"""A picture [H, W, 3], or a mask or grey levels [H, W]."""
