"""The simulation where the answer is known."""

import pytest

from benchmarks.arrivals import Arrival
from benchmarks.serve_simulation import (
    DECODE_SECONDS,
    POLICIES,
    PUBLISHED,
    TEXT_SECONDS,
    run,
    seconds_of_row,
)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_a_picture_alone_takes_its_own_time(policy: object) -> None:
    arrivals = [Arrival(100.0 * i, 20) for i in range(3)]
    assert callable(policy)
    wanted = TEXT_SECONDS + 20 * seconds_of_row(1) + DECODE_SECONDS
    for each, end in zip(arrivals, policy(arrivals), strict=True):
        assert end - each.at == pytest.approx(wanted)


def test_the_line_goes_through_what_was_published() -> None:
    assert {n: seconds_of_row(n) for n in PUBLISHED} == pytest.approx(PUBLISHED)


def test_beyond_what_one_at_a_time_can_do_batching_keeps_up() -> None:
    figures = {
        str(row["policy"]): row
        for row in run(400)
        if (row["arrivals"], row["load"]) == ("Poisson", 1.1)
    }
    alone, static, continuous = figures.values()
    assert continuous["p95"] < static["p95"] < alone["p95"]  # type: ignore[operator]
