"""PSNR and SSIM against scikit-image.

The golden values are those of scikit-image 0.26.0:

    import numpy as np
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity
    r = np.random.default_rng(4)
    a = np.linspace(0, 1, 40 * 30 * 3).reshape(40, 30, 3) ** 2
    for n in (0.01, 0.1, 0.5):
        b = np.clip(a + n * r.standard_normal(a.shape), 0, 1)
        print(peak_signal_noise_ratio(a, b, data_range=1))
        print(structural_similarity(a, b, data_range=1, channel_axis=2, gaussian_weights=True,
                                    sigma=1.5, use_sample_covariance=False))
"""

import numpy as np
import pytest

from convert.similarity import EQUAL_DB, psnr, ssim

GOLDEN = {
    0.01: (40.325413581880134, 0.9675067844305779),
    0.1: (20.937031372735927, 0.30816040581419785),
    0.5: (9.114897132618813, 0.026530210555931803),
}


def test_figures_are_scikit_images() -> None:
    generator = np.random.default_rng(4)
    picture = np.linspace(0, 1, 40 * 30 * 3).reshape(40, 30, 3) ** 2
    for noise, (decibels, similarity) in GOLDEN.items():
        other = np.clip(picture + noise * generator.standard_normal(picture.shape), 0, 1)
        assert psnr(picture, other) == pytest.approx(decibels, rel=1e-12)
        assert ssim(picture, other) == pytest.approx(similarity, rel=1e-9)
        assert ssim(other, picture) == pytest.approx(similarity, rel=1e-9)


def test_equal_pictures() -> None:
    picture = np.random.default_rng(1).random((11, 12, 3), np.float32)
    assert psnr(picture, picture.copy()) == EQUAL_DB
    assert psnr(picture, picture + np.float32(1e-7)) == EQUAL_DB
    assert ssim(picture, picture.copy()) == pytest.approx(1)


def test_values_that_are_no_numbers_are_not_alike() -> None:
    picture = np.zeros((16, 16, 3), np.float32)
    broken = picture.copy()
    broken[3, 4, 0] = np.nan
    assert psnr(picture, broken) == psnr(broken, picture) == 0
    assert ssim(picture, broken) == ssim(broken, picture) == -1


def test_black_and_white_are_as_unlike_as_can_be() -> None:
    picture = np.zeros((16, 16, 3), np.float32)
    assert psnr(picture, 1 - picture) == 0
    assert ssim(picture, 1 - picture) == pytest.approx(0, abs=1e-3)
