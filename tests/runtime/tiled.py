"""Networks that are functions of ours, run over tiles."""

from collections.abc import Callable

from runtime.calls import Calls, complete
from runtime.tiles import Values, run_tiled


def tiled(
    network: Callable[[Values], Values],
    source: Values,
    scale: tuple[int, int],
    tile: int,
    overlap: int,
) -> Values:
    """As `run_tiled`, all calls of `network` one after the other."""

    def call(part: Values) -> Calls[Values]:
        yield "network"
        return network(part)

    return complete(run_tiled(call, source, scale, tile, overlap))
