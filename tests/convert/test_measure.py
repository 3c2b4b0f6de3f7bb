"""What a stage costs, as it is measured."""

import sys
import time

import pytest

from convert.measure import measured

SIZE = 300_000_000


def test_seconds_are_those_of_the_block() -> None:
    began = time.perf_counter()
    with measured() as measurement:
        time.sleep(0.05)
    assert 0.05 <= measurement.seconds <= time.perf_counter() - began


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can start the peak afresh")
def test_peak_is_that_of_the_block_alone() -> None:
    with measured() as large:
        bytearray(SIZE)
    with measured() as small:
        pass
    assert large.peak_bytes > SIZE
    assert small.peak_bytes < large.peak_bytes - 0.8 * SIZE


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can start the peak afresh")
def test_peak_of_a_block_covers_those_within() -> None:
    with measured() as outer:
        with measured() as large:
            bytearray(SIZE)
        with measured() as small:
            pass
    assert outer.peak_bytes >= large.peak_bytes > small.peak_bytes


def test_figures_are_there_after_a_failure() -> None:
    with pytest.raises(ValueError, match="stop"), measured() as measurement:
        raise ValueError("stop")
    assert measurement.peak_bytes > 0
