"""Resized pictures against diffusers' image processor."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from runtime.arrays import Pixels
from runtime.resize import CROP, FILL, FILTERS, RESIZE_MODES, STRETCH, resize

THEIRS = {STRETCH: "default", CROP: "crop", FILL: "fill"}
SIZES = [
    ((30, 50), (64, 64)),
    ((50, 30), (64, 64)),
    ((64, 64), (40, 72)),
    ((101, 77), (64, 48)),
    ((33, 17), (33, 18)),
    ((20, 10), (40, 20)),
]


def _pixels(width: int, height: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def processor() -> Any:
    from diffusers.image_processor import VaeImageProcessor

    return VaeImageProcessor()


@pytest.mark.parametrize("mode", RESIZE_MODES)
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_pictures_are_resized_as_in_diffusers(
    processor: Any, before: tuple[int, int], after: tuple[int, int], mode: str
) -> None:
    pixels = _pixels(*before)
    width, height = after
    wanted = processor.resize(Image.fromarray(pixels), height, width, resize_mode=THEIRS[mode])
    np.testing.assert_array_equal(resize(pixels, width, height, mode), np.asarray(wanted))


@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_masks_are_resized_too(mode: str) -> None:
    mask = _pixels(30, 50)[..., 0]
    assert resize(mask, 64, 64, mode).shape == (64, 64)
    assert resize(mask, 30, 50, mode) is mask


def test_no_line_of_a_filled_picture_stays_black() -> None:
    """diffusers and the webui leave one where the space cannot be halved."""
    for width, height in ((12, 8), (8, 12)):
        white = np.full((8, 8, 3), 255, np.uint8)
        for more in (1, 2, 3):
            filled = resize(white, width + (width > 8) * more, height + (height > 8) * more, FILL)
            assert (filled == 255).all()


def test_a_very_long_picture_keeps_a_pixel() -> None:
    assert resize(_pixels(1000, 1), 64, 64, FILL).shape == (64, 64, 3)
    assert resize(_pixels(1, 1000), 64, 64, CROP).shape == (64, 64, 3)


@pytest.mark.parametrize("method", FILTERS)
def test_the_filter_is_pillows(method: str) -> None:
    pixels = _pixels(10, 10)
    wanted = Image.fromarray(pixels).resize((25, 17), Image.Resampling[method.upper()])
    np.testing.assert_array_equal(resize(pixels, 25, 17, method=method), np.asarray(wanted))
