"""The VAE over pictures that are too large for it at once: tiles that run into each other."""

from collections.abc import Callable

import numpy as np

from runtime.arrays import Float32Array
from runtime.calls import Calls

AUTO = "auto"
ON = "on"
OFF = "off"
TILINGS = (AUTO, ON, OFF)

AUTO_ABOVE = 1024 * 1024
"""Pixels of a picture above which `auto` tiles: attention over it takes memory by its square."""

TILE = 96
"""The side of a tile in latents."""

OVERLAP = 24
"""How many latents neighbours have in common at least."""


def wants_tiles(tiling: str, width: int, height: int) -> bool:
    """Whether a picture of this size in pixels is tiled.

    Args:
        tiling: one of `TILINGS`.
        width: in pixels.
        height: likewise.
    """
    return tiling == ON or (tiling == AUTO and width * height > AUTO_ABOVE)


def size_of_call(tiling: str, width: int, height: int, downscale: int) -> tuple[int, int]:
    """The width and height in pixels of what one call takes: the whole picture, or a tile.

    Args:
        tiling: one of `TILINGS`.
        width: of the picture, in pixels.
        height: likewise.
        downscale: pixels per latent along one side.
    """
    if not wants_tiles(tiling, width, height):
        return width, height
    return min(width, TILE * downscale), min(height, TILE * downscale)


def run_whole_or_tiled(
    run: Callable[[Float32Array], Calls[Float32Array]],
    source: Float32Array,
    scale: tuple[int, int],
    tiling: str,
) -> Calls[Float32Array]:
    """Run the VAE's encoder or decoder over a picture in one call, or in tiles.

    Args:
        run: as in `run_tiled`.
        source: [C, h, w].
        scale: as in `run_tiled`; of the two, the picture's is the pixels per latent.
        tiling: one of `TILINGS`.

    Returns:
        [C', h', w'] of the whole.
    """
    per_source, _ = scale
    height, width = (side // per_source * max(scale) for side in source.shape[1:])
    if wants_tiles(tiling, width, height):
        return (yield from run_tiled(run, source, scale))
    return (yield from run(source))


def run_tiled(
    run: Callable[[Float32Array], Calls[Float32Array]],
    source: Float32Array,
    scale: tuple[int, int],
    tile: int = TILE,
    overlap: int = OVERLAP,
) -> Calls[Float32Array]:
    """Run a network over tiles of one size, a call each, and blend what comes out.

    In what two tiles have in common one fades into the other, so that there is no seam, though a
    tile does not know of what is outside of it.

    Args:
        run: one call, from [C, h, w] to [C', h', w'] of sides in the proportion of `scale`.
        source: [C, h, w].
        scale: units of a side of the source and of the result for each latent.
        tile: the side of a tile in latents; a shorter side of the source is one tile.
        overlap: how much neighbours have in common at least, in latents, below `tile`.

    Returns:
        [C', h', w'] of the whole.
    """
    per_source, per_result = scale
    rows, columns = (side // per_source for side in source.shape[1:])
    down, across = _places(rows, tile, overlap), _places(columns, tile, overlap)
    tall, wide = min(tile, rows), min(tile, columns)
    weight = np.outer(
        _ramp(tall * per_result, overlap * per_result),
        _ramp(wide * per_result, overlap * per_result),
    )
    total, weights = np.empty(0, np.float32), np.zeros((rows * per_result, columns * per_result))
    for top in down:
        for left in across:
            part = source[
                :,
                top * per_source : (top + tall) * per_source,
                left * per_source : (left + wide) * per_source,
            ]
            result = yield from run(np.ascontiguousarray(part))
            if not total.size:
                total = np.zeros((len(result), *weights.shape), np.float32)
            place = (
                slice(top * per_result, (top + tall) * per_result),
                slice(left * per_result, (left + wide) * per_result),
            )
            total[:, *place] += result * weight
            weights[place] += weight
    total /= weights
    return total


def _places(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin: as few as there can be, evenly over the whole."""
    if length <= tile:
        return [0]
    steps = -(-(length - tile) // (tile - overlap))
    return [round(i * (length - tile) / steps) for i in range(steps + 1)]


def _ramp(length: int, overlap: int) -> Float32Array:
    """A tile's weight along one side: rising and falling over the overlap, never 0."""
    distance = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
    ramp: Float32Array = np.minimum(distance / max(overlap, 1), 1).astype(np.float32)
    return ramp
