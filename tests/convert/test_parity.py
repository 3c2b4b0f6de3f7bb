"""Thresholds of the comparison with torch."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convert.parity import TOLERANCES, compare

REFERENCE = [np.array([[3.0, -4.0]], np.float32), np.array([[8.0, 0.0, 6.0]], np.float32)]


def found(*changes: tuple[int, int, float]) -> list[NDArray[Any]]:
    arrays = [array.copy() for array in REFERENCE]
    for i, j, change in changes:
        arrays[i][0, j] += change
    return arrays


def test_figures_are_over_all_inputs() -> None:
    figures = compare("out", REFERENCE, found((0, 1, 0.5), (1, 0, -0.25)), "float32")
    assert (figures.output, figures.max_error) == ("out", 0.5)
    assert figures.mean_error == pytest.approx(0.75 / 5)
    # The first: (3·3 + 4·3.5) / (5 · |(3, 3.5)|); the second is nearer to 1.
    assert figures.cosine == pytest.approx(23 / (5 * np.hypot(3, 3.5)))
    assert figures.tolerance == pytest.approx(8 * TOLERANCES["float32"].error)
    assert not figures.passed


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_limit_is_a_part_of_the_largest_magnitude(dtype: str) -> None:
    limit = TOLERANCES[dtype].error * 8
    assert compare("out", REFERENCE, found((1, 0, 0.9 * limit)), dtype).passed
    assert not compare("out", REFERENCE, found((1, 0, 1.1 * limit)), dtype).passed


def test_values_that_are_no_numbers_fail() -> None:
    assert not compare("out", REFERENCE, found((0, 0, np.nan)), "float16").passed


def test_small_error_in_a_small_output_fails_by_its_direction() -> None:
    references = [np.full((1, 4), 1e-4, np.float32), np.ones((1, 4), np.float32)]
    turned = [np.array([[1e-4, -1e-4, 1e-4, -1e-4]], np.float32), references[1]]
    assert not compare("out", references, turned, "float16").passed
