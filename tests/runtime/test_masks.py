"""Masks against diffusers, scipy and torch."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from runtime.arrays import Pixels
from runtime.masks import Box, blur, harden, latent_mask, paste, region_around


def _mask(width: int, height: int, box: Box) -> Pixels:
    mask = np.zeros((height, width), np.uint8)
    left, top, right, bottom = box
    mask[top:bottom, left:right] = 255
    return mask


@pytest.mark.parametrize("sigma", [0.2, 1.0, 4.0, 6.5])
def test_blur_is_a_gaussian_cut_off(sigma: float) -> None:
    mask = np.random.default_rng(0).integers(0, 256, (40, 31)).astype(np.uint8)
    radius = int(2.5 * sigma + 0.5)
    wanted = ndimage.gaussian_filter(mask.astype(np.float64), sigma, mode="mirror", radius=radius)
    assert np.abs(blur(mask, sigma) - wanted).max() <= 0.51


def test_blur_mirrors_more_than_once_where_a_mask_is_small() -> None:
    for shape in ((1, 1), (1, 5), (3, 2)):
        mask = np.full(shape, 200, np.uint8)
        np.testing.assert_array_equal(blur(mask, 4.0), mask)
    mask = np.array([[0, 255, 0, 0]], np.uint8)
    wanted = ndimage.gaussian_filter1d(mask.astype(np.float64), 4.0, mode="mirror", radius=10)
    assert np.abs(blur(mask, 4.0) - wanted).max() <= 0.51


def test_no_blur_leaves_the_mask() -> None:
    mask = _mask(8, 8, (2, 2, 4, 4))
    assert blur(mask, 0) is mask


def test_regions_are_those_of_diffusers() -> None:
    from diffusers.image_processor import VaeImageProcessor

    rng = np.random.default_rng(1)
    for _ in range(300):
        width, height = rng.integers(4, 90, 2).tolist()
        left, top = rng.integers(0, (width, height)).tolist()
        right, bottom = rng.integers((left + 1, top + 1), (width + 1, height + 1)).tolist()
        mask = _mask(width, height, (left, top, right, bottom))
        size = rng.integers(1, 9, 2) * 64
        padding = int(rng.integers(0, 20))
        wide, tall = size.tolist()
        wanted = VaeImageProcessor.get_crop_region(Image.fromarray(mask), wide, tall, padding)
        assert region_around(mask, wide, tall, padding) == wanted


def test_hard_latent_masks_are_those_of_diffusers() -> None:
    """Binarised at a half of the grey levels, and interpolated by torch's default."""
    mask = np.random.default_rng(2).integers(0, 256, (48, 64)).astype(np.uint8)
    binary = (torch.from_numpy(mask / 255) >= 0.5).float()[None, None]
    wanted = torch.nn.functional.interpolate(binary, size=(6, 8))[0, 0].numpy()
    np.testing.assert_array_equal(latent_mask(mask, 8, soft=False), wanted)
    np.testing.assert_array_equal(latent_mask(harden(mask), 8, soft=False), wanted)
    assert harden(np.array([[127, 128]], np.uint8)).tolist() == [[0, 255]]


def test_soft_latent_masks_are_means() -> None:
    mask = np.random.default_rng(3).integers(0, 256, (48, 64)).astype(np.uint8)
    pooled = torch.nn.functional.avg_pool2d(torch.from_numpy(mask / 255)[None], 8)[0].numpy()
    np.testing.assert_allclose(latent_mask(mask, 8, soft=True), pooled, atol=1e-6)


def test_paste_keeps_what_is_not_masked() -> None:
    rng = np.random.default_rng(4)
    ground, painted = rng.integers(0, 256, (2, 5, 256, 3)).astype(np.uint8)
    mask = np.tile(np.arange(256, dtype=np.uint8), (5, 1))
    laid = paste(ground, painted, mask)
    np.testing.assert_array_equal(laid[:, 0], ground[:, 0])
    np.testing.assert_array_equal(laid[:, 128:], painted[:, 128:])
    wanted = ground[:, 51] * 0.6 + painted[:, 51] * 0.4
    assert np.abs(laid[:, 51] - wanted).max() <= 0.51
