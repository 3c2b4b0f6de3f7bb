"""Arrivals and what is measured of them, where the answer is known."""

import itertools
import random

import pytest

from benchmarks.arrivals import KINDS, Arrival, bursty, measure, poisson

MIX = ((8, 0.25), (20, 0.75))
COUNT = 20_000


@pytest.mark.parametrize("arrive", KINDS.values(), ids=KINDS)
def test_rate_mix_and_order(arrive: object) -> None:
    assert callable(arrive)
    arrivals: list[Arrival] = list(arrive(2.0, COUNT, MIX, random.Random(1)))
    times = [each.at for each in arrivals]
    assert times == sorted(times)
    assert COUNT / times[-1] == pytest.approx(2.0, rel=0.1)
    assert sum(each.steps == 8 for each in arrivals) == pytest.approx(COUNT / 4, rel=0.05)
    assert arrivals == list(arrive(2.0, COUNT, MIX, random.Random(1)))


def test_gaps_of_poisson_arrivals_have_a_standard_deviation_of_their_mean() -> None:
    gaps = _gaps(list(poisson(2.0, COUNT, MIX, random.Random(1))))
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert variance**0.5 == pytest.approx(mean, rel=0.05)


def test_most_of_a_burst_comes_four_times_as_fast() -> None:
    gaps = sorted(_gaps(list(bursty(2.0, COUNT, MIX, random.Random(1)))))
    within = gaps[: int(0.9 * len(gaps))]  # of 16 gaps 15 are within a burst
    assert sum(within) / len(within) == pytest.approx(1 / 8, rel=0.2)
    assert max(gaps) > 50 / 8


def test_percentiles_are_those_of_pictures() -> None:
    figures = measure([Arrival(0, 1)] * 100, [float(i) for i in range(1, 101)])
    assert figures == {"pictures_per_second": 1, "p50": 50, "p95": 95, "p99": 99}


def test_a_latency_begins_at_the_arrival() -> None:
    figures = measure([Arrival(0, 1), Arrival(3, 1)], [2, 4])
    assert figures == {"pictures_per_second": 0.5, "p50": 1, "p95": 2, "p99": 2}


def _gaps(arrivals: list[Arrival]) -> list[float]:
    return [b.at - a.at for a, b in itertools.pairwise(arrivals)]
