"""Enlarging and convolving in one step, which OpenVINO then does with 4/9 of the multiplications.

The UNet and the VAE's decoder repeat every pixel twice in both directions and convolve with 3x3
numbers. Of the nine products of each pixel made, most have a factor in common. A transposed
convolution with 4x4 numbers and stride 2 computes the same from the small picture, with four.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.backends.openvino_library import import_library

opset13 = import_library().opset13

_CHANNELS: Final = 16
"""So many at a time stay in the cache."""

_REPEATS: Final = {
    "mode": "nearest",
    "coordinate_transformation_mode": "asymmetric",
    "nearest_mode": "floor",
}
_CONVOLUTION: Final = {
    "strides": [1, 1],
    "dilations": [1, 1],
    "pads_begin": [1, 1],
    "pads_end": [1, 1],
}


def merge_upsampling(model: Any) -> int:
    """Put transposed convolutions in the place of enlargements with the convolutions after them.

    An enlargement to less than exactly twice the size, as the UNet needs for sizes that cannot be
    halved evenly, stays as it is: its last pixels are no repetitions.

    Args:
        model: a graph whose sizes are known; it is changed.

    Returns:
        How many were merged.
    """
    merged = list(_pairs(model))
    for enlargement, convolution in merged:
        kernel = merged_kernel(convolution.input_value(1).get_node().data)
        transposed = opset13.convolution_backprop_data(
            enlargement.input_value(0),
            opset13.constant(kernel, shared_memory=True),
            strides=[2, 2],
            pads_begin=[1, 1],
            pads_end=[1, 1],
            dilations=[1, 1],
        )
        transposed.set_friendly_name(convolution.get_friendly_name())
        convolution.output(0).replace(transposed.output(0))
    return len(merged)


def merged_kernel(weights: NDArray[Any]) -> NDArray[Any]:
    """The kernel of the transposed convolution, rounded once to the dtype of the weights.

    Args:
        weights: [out, in, 3, 3], the convolution's.

    Returns:
        [in, out, 4, 4]: number (y, x) is the sum of those numbers of the convolution that meet the
        same small pixel, mirrored as transposed convolutions want them.
    """
    sums = np.zeros((3, 3, 4, 4), np.float32)
    for y, x in np.ndindex(3, 3):
        sums[y, x, 2 - y : 4 - y, 2 - x : 4 - x] = 1
    made, taken = weights.shape[:2]
    kernel = np.empty((taken, made, 4, 4), weights.dtype)
    for begin in range(0, taken, _CHANNELS):
        part = weights[:, begin : begin + _CHANNELS].swapaxes(0, 1).astype(np.float32, order="C")
        kernel[begin : begin + _CHANNELS] = (part.reshape(-1, 9) @ sums.reshape(9, 16)).reshape(
            -1, made, 4, 4
        )
    return kernel


def _pairs(model: Any) -> Iterator[tuple[Any, Any]]:
    """Each enlargement to twice the size of which only a convolution with 3x3 numbers is made."""
    for enlargement in model.get_ordered_ops():
        if enlargement.get_type_name() != "Interpolate" or not _doubles(enlargement):
            continue
        targets = list(enlargement.output(0).get_target_inputs())
        convolution = targets[0].get_node()
        if len(targets) == 1 and _convolves(convolution):
            yield enlargement, convolution


def _doubles(enlargement: Any) -> bool:
    before, after = (
        node.get_partial_shape() for node in (enlargement.input(0), enlargement.output(0))
    )
    if before.is_dynamic or after.is_dynamic or not _has(enlargement, _REPEATS):
        return False
    (*batch, height, width), made = before.to_shape(), after.to_shape()
    return list(made) == [*batch, 2 * height, 2 * width]


def _convolves(convolution: Any) -> bool:
    if convolution.get_type_name() != "Convolution" or not _has(convolution, _CONVOLUTION):
        return False
    weights = convolution.input_value(1).get_node()
    return weights.get_type_name() == "Constant" and list(weights.shape[2:]) == [3, 3]


def _has(node: Any, wanted: dict[str, Any]) -> bool:
    attributes = node.get_attributes()
    return all(attributes[name] == value for name, value in wanted.items())
