"""The bound on a picture's time: its arithmetic, and that the tables hold together."""

import pytest

from benchmarks.graph_cost import GraphCost
from benchmarks.published import GPUS, PUBLISHED
from benchmarks.roofline import LABEL, PictureCost, bound_seconds, render


def _cost(size: int = 512) -> PictureCost:
    return PictureCost(
        size,
        text_encoder=GraphCost(0, 200_000_000_000, 0),
        unet=GraphCost(4_000_000_000_000, 100_000_000_000, 0),
        vae_decoder=GraphCost(1_000_000_000_000, 0, 0),
    )


def test_each_graph_is_bound_by_the_slower_of_work_and_weights() -> None:
    """At 2 TFLOP/s and 100 GB/s: 2 s of weights, 2 s of work a step, half a second of work."""
    assert bound_seconds(_cost(), 3, 2.0, 100.0) == pytest.approx(2 + 3 * 2 + 0.5)
    assert bound_seconds(_cost(), 3, 1000.0, 100.0) == pytest.approx(2 + 3 * 1 + 0.001)


def test_no_published_time_is_below_its_bound() -> None:
    """Stable Diffusion 1.5's UNet takes 1.6065 TFLOP a guided step at 512x512."""
    cost = GraphCost(1_606_546_882_560, 0, 0)
    nothing = GraphCost(0, 0, 0)
    rates = {gpu.name: gpu for gpu in GPUS}
    for time in PUBLISHED:
        gpu = rates[time.gpu]
        picture = PictureCost(512, nothing, cost, nothing)
        assert bound_seconds(picture, time.steps, gpu.tflops, gpu.gb_per_second) < time.seconds


def test_the_tables_say_what_they_are_and_name_every_gpu() -> None:
    text = render({512: _cost()})
    assert LABEL in text
    for gpu in GPUS:
        assert f"| {gpu.name} |" in text
    assert text.count("\n| ") == 1 + 3 + 1 + len(GPUS) + 1 + len(PUBLISHED)
