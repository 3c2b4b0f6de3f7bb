"""When pictures are asked for, and what became of them: for the load test and the simulation."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Mix = Sequence[tuple[int, float]]
"""Steps of a picture and how often they are asked for."""


@dataclass(frozen=True)
class Arrival:
    """A picture that is asked for: when, in seconds, and how many steps it has."""

    at: float
    steps: int


def poisson(rate: float, count: int, mix: Mix, random_: random.Random) -> Iterator[Arrival]:
    """Arrivals that know nothing of each other, `rate` a second."""
    at = 0.0
    for _ in range(count):
        at += random_.expovariate(rate)
        yield Arrival(at, _draw(mix, random_))


def bursty(rate: float, count: int, mix: Mix, random_: random.Random) -> Iterator[Arrival]:
    """As many on the whole, in bursts of 16 on average that come four times as fast."""
    at, left = 0.0, 0
    for _ in range(count):
        if not left:
            left = 1 + int(random_.expovariate(1 / 16))
            at += random_.expovariate(rate / (left * 0.75))
        left -= 1
        at += random_.expovariate(4 * rate)
        yield Arrival(at, _draw(mix, random_))


KINDS: dict[str, Callable[[float, int, Mix, random.Random], Iterator[Arrival]]] = {
    "Poisson": poisson,
    "bursty": bursty,
}


def measure(arrivals: Sequence[Arrival], finished: Sequence[float]) -> dict[str, float]:
    """Pictures a second, and the latency's percentiles in seconds, each that of a picture.

    Args:
        arrivals: the pictures; not empty.
        finished: when each was finished, in seconds of the arrivals' clock.
    """
    latencies = sorted(end - each.at for each, end in zip(arrivals, finished, strict=True))
    shares = {f"p{share}": share / 100 for share in (50, 95, 99)}
    return {
        "pictures_per_second": len(arrivals) / max(finished),
        **{
            name: latencies[math.ceil(share * len(latencies)) - 1] for name, share in shares.items()
        },
    }


def _draw(mix: Mix, random_: random.Random) -> int:
    return random_.choices([steps for steps, _ in mix], [share for _, share in mix])[0]
