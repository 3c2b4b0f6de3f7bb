"""What pictures cost on this machine: by stage, a minute, in memory, and outside the engine."""

import math
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from engines.backend import Choice
from engines.bundle import Bundle
from engines.identity import Json
from runtime.pipeline import Pipeline
from runtime.request import Request, Settings
from runtime.stopwatch import Stopwatch, TimedBackend


@dataclass(frozen=True)
class Spread:
    """How long something took each time: the number of times, and percentiles in seconds."""

    count: int
    p50: float
    p95: float


@dataclass(frozen=True)
class Measured:
    """What a bench found.

    Attributes:
        first: seconds from an opened bundle to the first round's last picture: loading and
            compiling graphs, and a round.
        opening: for each component, the seconds of that which loading its graph took.
        stages: for each component, how long a call took.
        rounds: how long a round of `pictures` pictures took.
        pictures: how many were made at a time.
        pictures_per_minute: over all rounds after the first.
        engine_share: the part of their time that was spent in the engine's calls, 0 to 1.
        peak_bytes: the largest resident size of this process so far; not a GPU's memory.
    """

    first: float
    opening: dict[str, float]
    stages: dict[str, Spread]
    rounds: Spread
    pictures: int
    pictures_per_minute: float
    engine_share: float
    peak_bytes: int

    def value(self) -> dict[str, Json]:
        """The figures for a machine to read."""
        return asdict(self)


def measure(
    bundle: Bundle,
    choice: Choice,
    request: Request,
    rounds: int,
    on_round: Callable[[int], object] = lambda done: None,
) -> Measured:
    """Make the pictures of a request again and again, each time with another prompt's text.

    A prompt that was encoded before would cost nothing, so each round's has a number behind it.

    Args:
        bundle: the opened bundle.
        choice: the backend.
        request: what to make in a round; a seed that is None is fixed at 0.
        rounds: how many rounds to measure, after a first one that is not among them.
        on_round: told how many rounds, the first included, are done.

    Raises:
        SettingError: the request is not possible.
        BackendError: the engine fails.
    """
    watch = Stopwatch()
    backend = TimedBackend(choice.backend, watch)
    with Pipeline(bundle, replace(choice, backend=backend)) as pipeline:

        def settle(number: int) -> list[Settings]:
            prompt = f"{request.prompt}, {number}"
            return pipeline.settle([replace(request, prompt=prompt, seed=request.seed or 0)])

        first = _time(pipeline, settle(0))
        on_round(1)
        watch.calls.clear()
        seconds = []
        for number in range(1, rounds + 1):
            settings = settle(number)
            seconds.append(_time(pipeline, settings))
            on_round(1 + number)
    total = sum(seconds)
    return Measured(
        first=first,
        opening=dict(backend.opening),
        stages={name: spread(calls) for name, calls in watch.calls.items()},
        rounds=spread(seconds),
        pictures=request.count,
        pictures_per_minute=60 * rounds * request.count / total,
        engine_share=sum(map(sum, watch.calls.values())) / total,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def spread(seconds: Sequence[float]) -> Spread:
    """The nearest-rank percentiles of at least one duration."""
    ordered = sorted(seconds)

    def percentile(share: float) -> float:
        return ordered[math.ceil(share * len(ordered)) - 1]

    return Spread(len(ordered), percentile(0.5), percentile(0.95))


def _time(pipeline: Pipeline, settings: Sequence[Settings]) -> float:
    """Seconds to make pictures and encode them as PNG files, without writing them."""
    started = time.perf_counter()
    for picture in pipeline.generate(settings):
        picture.png()
    return time.perf_counter() - started
