"""Tiles that are blended to a whole."""

import numpy as np
import pytest

from runtime.arrays import Float32Array
from runtime.calls import Calls, complete
from runtime.tiles import (
    AUTO,
    OFF,
    ON,
    TILE,
    run_tiled,
    run_whole_or_tiled,
    size_of_call,
    wants_tiles,
)
from tests.runtime.tiled import tiled

SIZES = [(8, 8), (9, 20), (31, 8), (30, 47), (5, 40)]


def _enlarge(values: Float32Array) -> Float32Array:
    enlarged: Float32Array = 2 * values[:3].repeat(4, axis=1).repeat(4, axis=2)
    return enlarged


def _reduce(values: Float32Array) -> Float32Array:
    _, height, width = values.shape
    means: Float32Array = values.reshape(2, height // 4, 4, width // 4, 4).mean(axis=(2, 4))
    return means


@pytest.mark.parametrize("size", SIZES)
def test_a_network_that_sees_each_place_alone_gives_the_same(size: tuple[int, int]) -> None:
    latents = np.random.default_rng(0).normal(size=(4, *size)).astype(np.float32)
    whole = tiled(_enlarge, latents, (1, 4), tile=8, overlap=3)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, _enlarge(latents), rtol=1e-5, atol=1e-6)
    shape = (2, 4 * size[0], 4 * size[1])
    picture = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    whole = tiled(_reduce, picture, (4, 1), tile=8, overlap=3)
    np.testing.assert_allclose(whole, _reduce(picture), rtol=1e-5, atol=1e-6)


def test_tiles_have_one_size_and_overlap() -> None:
    seen: list[tuple[int, int, int]] = []

    def remember(values: Float32Array) -> Float32Array:
        seen.append((int(values[0, 0, 0]), int(values[1, 0, 0]), values[0].size))
        return values

    rows, columns = np.mgrid[0:20, 0:13].astype(np.float32)
    tiled(remember, np.stack([rows, columns]), (1, 1), tile=8, overlap=2)
    assert seen == [(y, x, 64) for y in (0, 6, 12) for x in (0, 5)]


def test_there_is_no_seam() -> None:
    """Tiles that disagree by a constant fade over the whole overlap, by small steps."""
    count = 0

    def disagree(values: Float32Array) -> Float32Array:
        nonlocal count
        count += 1
        return np.full_like(values, count % 2)

    blended = tiled(disagree, np.zeros((1, 8, 50), np.float32), (1, 1), tile=20, overlap=10)
    steps = np.abs(np.diff(blended[0, 0]))
    assert blended.max() == 1
    assert blended.min() == 0
    assert steps.max() < 0.15


def test_when_a_picture_is_tiled() -> None:
    assert not wants_tiles(AUTO, 1024, 1024)
    assert wants_tiles(AUTO, 1032, 1024)
    assert wants_tiles(ON, 64, 64)
    assert not wants_tiles(OFF, 2048, 2048)


@pytest.mark.parametrize(("tiling", "tall"), [(OFF, 2 * TILE), (AUTO, 2 * TILE), (ON, TILE)])
@pytest.mark.parametrize("scale", [(1, 2), (2, 1)])
def test_a_call_takes_the_whole_or_a_tile(tiling: str, tall: int, scale: tuple[int, int]) -> None:
    sides = 2 * TILE, 50
    seen: list[tuple[int, ...]] = []

    def call(part: Float32Array) -> Calls[Float32Array]:
        yield "network"
        seen.append(part.shape)
        return part.repeat(2, 1).repeat(2, 2) if scale[1] == 2 else part[:, ::2, ::2]

    source = np.ones((1, *(side * scale[0] for side in sides)), np.float32)
    result = complete(run_whole_or_tiled(call, source, scale, tiling))
    assert result.shape == (1, *(side * scale[1] for side in sides))
    assert set(seen) == {(1, tall * scale[0], 50 * scale[0])}
    assert size_of_call(tiling, 2 * 50, 2 * 2 * TILE, 2) == (2 * 50, 2 * tall)


@pytest.mark.parametrize("scale", [(1, 8), (8, 1)])
def test_auto_tiles_by_the_pixels_of_the_picture(scale: tuple[int, int]) -> None:
    """1024x1024 in one call, a latent more in four tiles."""
    calls = {}
    for side in (128, 129):
        source = np.broadcast_to(np.float32(1), (1, side * scale[0], side * scale[0]))

        def call(part: Float32Array) -> Calls[Float32Array]:
            yield "network"
            result: Float32Array = part[:, :: scale[0], :: scale[0]]
            return result.repeat(scale[1], 1).repeat(scale[1], 2)

        calls[side] = len(list(run_whole_or_tiled(call, source, scale, AUTO)))
    assert calls == {128: 1, 129: 4}


def test_before_each_tile_others_may_use_the_engine() -> None:
    made = 0

    def call(part: Float32Array) -> Calls[Float32Array]:
        nonlocal made
        yield "network"
        made += 1
        return part

    calls = run_tiled(call, np.zeros((1, 8, 50), np.float32), (1, 1), tile=20, overlap=10)
    assert [(component, made) for component in calls] == [("network", i) for i in range(4)]
    assert made == 4
