"""Philox against its authors' vectors, and noise against what torch printed on CUDA devices."""

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.philox import PhiloxNoise, philox4x32

KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0"),
]
ANSWERS = [
    "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    "408f276d 41c83b0e a20bc7c6 6d5451fd",
    "d16cfe09 94fdcceb 5001e420 24126ea1",
]
"""Random123, tests/kat_vectors, the lines `philox4x32 10`: counter, key, answer."""

WEBUI_SEED_0 = [
    [-0.92466259, -0.42534415, -2.6438457, 0.14518388],
    [-0.12086647, -0.57972564, -0.62285122, -0.32838709],
    [-1.07454231, -0.36314407, -1.67105067, 2.26550497],
]
"""The webui's documented output of its NV generator for seed 0 and shape (3, 4)."""

CUDA_SEED_42 = [
    [0.1940, 2.1614, -0.1721, 0.8491, -1.9244],
    [0.6530, -0.6494, -0.8175, 0.5280, -1.2753],
]
"""torch.manual_seed(42); torch.randn(2, 5, device="cuda"), as flashinfer's documentation has it."""


def _words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def _random(counters: NDArray[np.uint64], key: tuple[int, int]) -> NDArray[np.uint64]:
    words = counters.copy()
    philox4x32(words, key, np.empty_like(words[:2]))
    return words


def test_known_answers() -> None:
    """All at once and each alone: entries of one call know nothing of each other."""
    for (counter, key), answer in zip(KNOWN_ANSWERS, ANSWERS, strict=True):
        low, high = _words(key)
        columns = np.array([_words(other) for other, _ in KNOWN_ANSWERS], np.uint64).T
        place = [other for other, _ in KNOWN_ANSWERS].index(counter)
        words = _random(columns, (low, high))
        assert words[:, place].tolist() == _words(answer)
        alone = _random(columns[:, place : place + 1], (low, high))
        assert alone[:, 0].tolist() == _words(answer)


def test_the_webuis_documented_values() -> None:
    drawn = PhiloxNoise(0).draw((3, 4))
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(drawn, WEBUI_SEED_0, rtol=0, atol=3e-7)


def test_what_torch_printed_on_a_cuda_device() -> None:
    np.testing.assert_allclose(PhiloxNoise(42).draw((2, 5)), CUDA_SEED_42, rtol=0, atol=6e-5)


def test_a_picture_of_a_batch_is_its_place_in_the_whole() -> None:
    """An element's value depends on its index alone: the batch comes before the channels."""
    batch = PhiloxNoise(7).draw((3, 4, 8, 8))
    np.testing.assert_array_equal(batch[0], PhiloxNoise(7).draw((4, 8, 8)))
    assert not np.array_equal(batch[0], batch[1])


def test_every_draw_takes_the_next_offset() -> None:
    """The offset is the counter's lowest word, the element its third; the seed is the key.

    The draw is so large that it is made in several blocks, the last of them short.
    """
    shape = (5, 4321)
    noise = PhiloxNoise(2**32 + 5)
    noise.draw((4, 8))
    noise.draw((0, 4))
    second = noise.draw(shape)
    counter = np.zeros((4, second.size), np.uint64)
    counter[0], counter[2] = 1, np.arange(second.size)
    first_word, second_word, *_ = _random(counter, (5, 1)).astype(np.float64)
    radius = np.sqrt(-2 * np.log((first_word + 0.5) / 2**32))
    wanted = radius * np.sin(2 * np.pi * (second_word + 0.5) / 2**32)
    np.testing.assert_allclose(second.reshape(-1), wanted, rtol=1e-6)


def test_both_halves_of_the_seed_count() -> None:
    drawn = {PhiloxNoise(seed).draw((1,)).item() for seed in (0, 1, 2**32, 2**32 + 1, 2**64 - 1)}
    assert len(drawn) == 5


def test_the_values_are_normal() -> None:
    """Moments of a million, within four standard errors."""
    values = PhiloxNoise(1).draw((1_000_000,)).astype(np.float64)
    assert np.isfinite(values).all()
    moments = [np.mean(values**power) for power in (1, 2, 3, 4)]
    assert moments == pytest.approx([0, 1, 0, 3], abs=4e-2)
    assert abs(moments[0]) < 4e-3
    assert abs(moments[1] - 1) < 6e-3
