"""Variations of a seed, against torch's generator and the formulas written out."""

import dataclasses
import math
import tracemalloc

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engines.errors import SettingError
from runtime.philox import PhiloxNoise
from runtime.request import Request, Settings, settle
from runtime.seeds import MAX_SEED, SOURCES, NoiseSettings, SeedNoise, lay_over, slerp
from tests.runtime.stand_ins import MANIFEST

SHAPE = (4, 6, 9)


def _torch(seed: int, *shapes: tuple[int, ...]) -> list[NDArray[np.float32]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).numpy() for shape in shapes]


def _noise(seed: int = 3, **fields: object) -> SeedNoise:
    return SeedNoise(seed, dataclasses.replace(NoiseSettings(), **fields), 8)  # type: ignore[arg-type]


def test_a_plain_seed_is_one_stream() -> None:
    noise = _noise()
    for drawn, wanted in zip(
        (noise.draw(SHAPE), noise.start(SHAPE), noise.draw((5,))),
        _torch(3, SHAPE, SHAPE, (5,)),
        strict=True,
    ):
        np.testing.assert_allclose(drawn, wanted, atol=1e-6)


def test_the_source_is_chosen() -> None:
    noise, stream = _noise(source="nv"), PhiloxNoise(3)
    np.testing.assert_array_equal(noise.start(SHAPE), stream.draw(SHAPE))
    np.testing.assert_array_equal(noise.draw(SHAPE), stream.draw(SHAPE))


@pytest.mark.parametrize(("source", "most"), [("cpu", 40_000), ("nv", 8_000)])
def test_streams_are_drawn_in_place(source: str, most: int) -> None:
    """Without arrays of the noise's size; numpy returns the words for `cpu`, a block at a time."""
    stream, other = SOURCES[source](3), SOURCES[source](3)
    out = np.empty((4, 128, 128), np.float32)
    stream.draw_into(out)
    np.testing.assert_array_equal(out, other.draw(out.shape))
    tracemalloc.start()
    try:
        stream.draw_into(out)
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(out, other.draw(out.shape))


def test_the_encoder_draws_from_the_stream_as_in_diffusers() -> None:
    noise = _noise()
    drawn = [noise.posterior(SHAPE), noise.start(SHAPE), noise.posterior(SHAPE), noise.draw(SHAPE)]
    np.testing.assert_allclose(drawn, _torch(3, *[SHAPE] * 4), atol=1e-6)


def test_the_encoder_draws_beside_the_stream_as_in_the_webui() -> None:
    """There what a seed gives first is what a picture starts from, whatever it is made of."""
    for seed in (3, MAX_SEED):
        noise, stream = _noise(seed, source="nv"), PhiloxNoise(seed)
        beside = [noise.posterior(SHAPE)]
        start = noise.start(SHAPE)
        beside.append(noise.posterior(SHAPE))
        np.testing.assert_array_equal(start, stream.draw(SHAPE))
        np.testing.assert_array_equal(noise.draw(SHAPE), stream.draw(SHAPE))
        np.testing.assert_array_equal(_noise(seed, source="nv").posterior(SHAPE), beside[0])
        everything = np.reshape([*beside, start], (3, -1))
        assert np.abs(np.corrcoef(everything) - np.eye(3)).max() < 0.3


def test_fill_is_drawn_beside_the_stream() -> None:
    noise = _noise()
    fill = noise.fill(SHAPE)
    np.testing.assert_array_equal(fill, noise.start(SHAPE))


def test_slerp_turns_every_column_by_itself() -> None:
    first, second = _torch(1, SHAPE, SHAPE)
    turned = slerp(first, second, 0.3)
    for channel in range(4):
        for column in range(9):
            a = first[channel, :, column].astype(np.float64)
            b = second[channel, :, column].astype(np.float64)
            angle = math.acos(a @ b / math.sqrt((a @ a) * (b @ b)))
            wanted = (math.sin(0.7 * angle) * a + math.sin(0.3 * angle) * b) / math.sin(angle)
            np.testing.assert_allclose(turned[channel, :, column], wanted, rtol=1e-5, atol=1e-6)


def test_slerp_begins_and_ends_with_its_noises() -> None:
    first, second = _torch(1, SHAPE, SHAPE)
    np.testing.assert_allclose(slerp(first, second, 0), first, atol=1e-6)
    np.testing.assert_allclose(slerp(first, second, 1), second, atol=1e-6)
    np.testing.assert_allclose(slerp(first, first, 0.5), first, atol=1e-6)
    np.testing.assert_allclose(slerp(first, -first, 0.25), first / 2, atol=1e-6)


def test_a_subseed_turns_the_start_and_nothing_after_it() -> None:
    noise = _noise(subseed=8, subseed_strength=0.4)
    first, then = _torch(3, SHAPE, SHAPE)
    (other,) = _torch(8, SHAPE)
    np.testing.assert_allclose(noise.start(SHAPE), slerp(first, other, 0.4), atol=1e-5)
    np.testing.assert_allclose(noise.draw(SHAPE), then, atol=1e-6)


def test_the_delta_is_of_the_noise_after_the_start() -> None:
    noise = _noise(eta_seed_delta=31337)
    posterior, start = _torch(3, SHAPE, SHAPE)
    np.testing.assert_allclose(noise.draw(SHAPE), posterior, atol=1e-6)
    np.testing.assert_allclose(noise.start(SHAPE), start, atol=1e-6)
    np.testing.assert_allclose(noise.draw(SHAPE), _torch(31340, SHAPE)[0], atol=1e-6)


@pytest.mark.parametrize(
    ("ground", "noise", "rows", "columns"),
    [
        ((1, 4, 4), (1, 4, 4), [0, 1, 2, 3], [0, 1, 2, 3]),
        ((1, 4, 6), (1, 4, 2), [0, 1, 2, 3], [None, None, 0, 1, None, None]),
        ((1, 5, 2), (1, 2, 2), [None, 0, 1, None, None], [0, 1]),
        ((1, 2, 4), (1, 4, 4), [1, 2], [0, 1, 2, 3]),
        ((1, 2, 8), (1, 2, 13), [0, 1], [3, 4, 5, 6, 7, 8, 9, None]),
    ],
)
def test_noise_of_another_size_lies_in_the_middle(
    ground: tuple[int, int, int],
    noise: tuple[int, int, int],
    rows: list[int | None],
    columns: list[int | None],
) -> None:
    """Where a side is smaller by an odd number, the last row or column stays: the webui's way."""
    below = -np.arange(1, 1 + math.prod(ground), dtype=np.float32).reshape(ground)
    above = np.arange(1, 1 + math.prod(noise), dtype=np.float32).reshape(noise)
    laid = lay_over(below, above)
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            covered = row is not None and column is not None
            wanted = above[0, row, column] if covered else below[0, y, x]
            assert laid[0, y, x] == wanted


def test_a_resized_seed_keeps_its_middle() -> None:
    noise = _noise(from_width=40, from_height=32, subseed=8, subseed_strength=0.4)
    small = (4, 4, 5)
    own, then = _torch(3, SHAPE, SHAPE)
    middle = slerp(_torch(3, small)[0], _torch(8, small)[0], 0.4)
    np.testing.assert_allclose(noise.start(SHAPE), lay_over(own, middle), atol=1e-5)
    np.testing.assert_allclose(noise.draw(SHAPE), then, atol=1e-6)
    same = _noise(from_width=72, from_height=48)
    np.testing.assert_allclose(same.start(SHAPE), own, atol=1e-6)


def _settle(seed: int = 7, count: int = 1, **fields: object) -> tuple[Settings, ...]:
    noise = dataclasses.replace(NoiseSettings(), **fields)  # type: ignore[arg-type]
    return settle(Request("a", seed=seed, count=count, noise=noise), MANIFEST)


def test_variations_have_one_seed_and_the_next_subseeds() -> None:
    settings = _settle(count=3, subseed=20, subseed_strength=0.5)
    assert [each.seed for each in settings] == [7, 7, 7]
    assert [each.noise.subseed for each in settings] == [20, 21, 22]


def test_without_a_strength_there_is_no_subseed() -> None:
    settings = _settle(count=2, subseed=20)
    assert [(each.seed, each.noise.subseed) for each in settings] == [(7, None), (8, None)]


def test_without_a_subseed_chance_decides() -> None:
    subseeds = {_settle(subseed_strength=0.1)[0].noise.subseed for _ in range(9)}
    assert len(subseeds) > 7


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": "gpu"}, "no noise 'gpu': choose cpu or nv"),
        ({"subseed": 1, "subseed_strength": 1.5}, "subseed strength 1.5 is not possible"),
        ({"subseed": 1, "subseed_strength": float("nan")}, "subseed strength nan"),
        ({"subseed": -1, "subseed_strength": 0.5}, "the subseed -1 is not possible"),
        (
            {"subseed": MAX_SEED, "subseed_strength": 0.5, "count": 2},
            f"subseed {MAX_SEED} is not possible",
        ),
        ({"from_width": 64}, "resized from 64x0"),
        ({"from_width": 65, "from_height": 64}, "resized from 65x64: choose multiples of 8"),
        ({"from_width": -64, "from_height": -64}, "resized from -64x-64"),
        ({"eta_seed_delta": -8}, "delta -8 leads from the seed 7"),
        ({"seed": MAX_SEED, "eta_seed_delta": 1}, "delta 1 leads"),
        ({"seed": MAX_SEED - 1, "count": 3}, f"the seed {MAX_SEED - 1} is not possible"),
    ],
)
def test_what_is_not_possible_is_said(fields: dict[str, int], message: str) -> None:
    with pytest.raises(SettingError) as caught:
        _settle(**fields)
    assert message in str(caught.value)


def test_the_last_seed_can_have_variations() -> None:
    assert len(_settle(seed=MAX_SEED, count=3, subseed=1, subseed_strength=0.5)) == 3
