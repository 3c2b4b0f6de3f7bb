"""Networks that are functions of ours, run over tiles."""

from collections.abc import Callable

from runtime.arrays import Float32Array
from runtime.calls import Calls, complete
from runtime.tiles import run_tiled


def tiled(
    network: Callable[[Float32Array], Float32Array],
    source: Float32Array,
    scale: tuple[int, int],
    tile: int,
    overlap: int,
) -> Float32Array:
    """As `run_tiled`, all calls of `network` one after the other."""

    def call(part: Float32Array) -> Calls[Float32Array]:
        yield "network"
        return network(part)

    return complete(run_tiled(call, source, scale, tile, overlap))
