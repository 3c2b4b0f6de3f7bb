"""Conversion from float16: every one of its values, against numpy's own."""

import numpy as np

from runtime.half import widen

EVERY_HALF = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(4, 128, 128)


def test_every_number_is_the_same_bit_for_bit() -> None:
    out = np.full(EVERY_HALF.shape, 7, np.float32)
    widen(EVERY_HALF, out)
    numbers = ~np.isnan(EVERY_HALF)
    assert numbers.sum() == 2**16 - 2 * (2**10 - 1)
    expected = EVERY_HALF[numbers].astype(np.float32)
    np.testing.assert_array_equal(out[numbers].view(np.int32), expected.view(np.int32))


def test_what_is_no_number_does_not_become_one() -> None:
    nans = EVERY_HALF[np.isnan(EVERY_HALF)]
    out = np.zeros(nans.shape, np.float32)
    widen(nans, out)
    assert not np.isfinite(out).any()


def test_a_part_of_an_array_is_read_and_nothing_else_written() -> None:
    out = np.full((3, 128, 128), 7, np.float32)
    widen(EVERY_HALF[0, ::2, :64], out[1, 64:, 64:])
    expected = np.full_like(out, 7)
    expected[1, 64:, 64:] = EVERY_HALF[0, ::2, :64]
    np.testing.assert_array_equal(out, expected)
