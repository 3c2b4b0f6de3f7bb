"""What is masked takes the colours around it and none of its own."""

import numpy as np
from scipy.interpolate import griddata

from runtime.arrays import Pixels
from runtime.fill import fill_masked


def _ramp() -> Pixels:
    rows, columns = np.mgrid[0:60, 0:80]
    return np.stack([rows * 4, columns * 3, 255 - columns * 2], axis=-1).astype(np.uint8)


def _hole() -> Pixels:
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 30:50] = 255
    return mask


def test_known_pixels_stay_and_masked_ones_do_not_count() -> None:
    mask = _hole()
    one, other = _ramp(), _ramp()
    other[mask > 0] = 7
    filled = fill_masked(one, mask)
    np.testing.assert_array_equal(filled, fill_masked(other, mask))
    np.testing.assert_array_equal(filled[mask == 0], one[mask == 0])


def test_a_hole_in_a_ramp_is_filled_with_the_ramp() -> None:
    """Close to what scipy's linear interpolation of the surroundings makes of it."""
    mask, picture = _hole(), _ramp().astype(np.float64)
    filled = fill_masked(_ramp(), mask)
    places = np.argwhere(mask == 0)
    for channel in range(3):
        values = picture[..., channel][mask == 0]
        wanted = griddata(places, values, np.argwhere(mask > 0), "linear")
        error = np.abs(filled[..., channel][mask > 0] - wanted)
        assert error.mean() < 6
        assert error.max() < 22


def test_pictures_that_are_all_or_nothing() -> None:
    picture = _ramp()
    np.testing.assert_array_equal(fill_masked(picture, np.full((60, 80), 255, np.uint8)), picture)
    np.testing.assert_array_equal(fill_masked(picture, np.zeros((60, 80), np.uint8)), picture)


def test_a_single_known_pixel_colours_everything() -> None:
    mask = np.full((60, 80), 255, np.uint8)
    mask[3, 70] = 0
    filled = fill_masked(_ramp(), mask)
    assert (filled == _ramp()[3, 70]).all()
