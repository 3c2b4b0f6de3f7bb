"""The bench on stand-ins that move a clock by hand: what is counted, where, and how often."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from engines import layout
from engines.backend import Choice
from engines.bundle import Bundle
from engines.session import Array, Session
from runtime import bench, stopwatch
from runtime.bench import measure, spread
from runtime.png import Picture
from runtime.request import Request
from tests.runtime.stand_ins import StandInBackend, StandInSession, open_stand_in

SECONDS = {layout.TEXT_ENCODER: 0.25, layout.UNET: 2.0, layout.VAE_DECODER: 0.5}
ENCODING = 0.125
OPENING = 4.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class SlowSession(StandInSession):
    """Takes the component's seconds, the first call ten times as long."""

    def __init__(self, component: str, clock: Clock) -> None:
        super().__init__(component)
        self._clock = clock

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        self._clock.now += SECONDS[self.component] * (1 if self.batches else 10)
        return super()._execute(feeds)


class SlowBackend(StandInBackend):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def open_session(self, bundle: Bundle, component: str) -> Session:
        self._clock.now += OPENING
        return SlowSession(component, self._clock)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (bench, stopwatch):
        monkeypatch.setattr(module, "time", clock)

    def png(picture: Picture) -> bytes:
        clock.now += ENCODING
        return b""

    monkeypatch.setattr(Picture, "png", png)
    return clock


def test_every_stage_is_counted_and_the_first_round_apart(tmp_path: Path, clock: Clock) -> None:
    bundle, done = open_stand_in(tmp_path / "look"), list[int]()
    choice = Choice(SlowBackend(clock), "asked for")
    measured = measure(bundle, choice, Request("a cat", steps=4, count=2), 3, done.append)
    assert {name: (s.count, s.p50, s.p95) for name, s in measured.stages.items()} == {
        layout.TEXT_ENCODER: (3, 0.25, 0.25),
        layout.UNET: (12, 2.0, 2.0),
        layout.VAE_DECODER: (6, 0.5, 0.5),
    }
    in_engine, outside = 0.25 + 4 * 2.0 + 2 * 0.5, 2 * ENCODING
    assert measured.rounds == spread([in_engine + outside] * 3)
    assert measured.first == in_engine + outside + 9 * sum(SECONDS.values()) + 3 * OPENING
    assert measured.opening == dict.fromkeys(SECONDS, OPENING)
    assert measured.engine_share == pytest.approx(in_engine / (in_engine + outside))
    assert measured.pictures_per_minute == pytest.approx(2 * 60 / (in_engine + outside))
    assert measured.peak_bytes > 10_000_000
    assert done == [1, 2, 3, 4]


def test_percentiles_are_durations_that_happened() -> None:
    hundred = spread([float(n) for n in range(100, 0, -1)])
    assert (hundred.count, hundred.p50, hundred.p95) == (100, 50.0, 95.0)
    assert spread([3.0]) == bench.Spread(1, 3.0, 3.0)
    assert spread([1.0, 9.0]) == bench.Spread(2, 1.0, 9.0)
