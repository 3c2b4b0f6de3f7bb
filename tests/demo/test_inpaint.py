"""Inpainting cracks one half of a face and leaves the other alone, on fixed seeds."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from demo.look import Picture, crack_density
from runtime.init_settings import InitSettings, MaskSettings
from runtime.pipeline import Pipeline
from runtime.request import Request
from runtime.source_picture import SourcePicture
from tests.demo.test_look import FIRST_SEED, PROMPTS

SIDE = 128
FACES = (0, 2, 7)
"""Of the prompts, with their seeds: blue, green and brown skin."""
BLUR = 2


@pytest.fixture(scope="module")
def pipeline(demo_bundle: Path) -> Iterator[Pipeline]:
    with Pipeline.open(demo_bundle, "cpu") as opened:
        yield opened


def _make(pipeline: Pipeline, requests: list[Request]) -> list[Picture]:
    made = {p.settings.seed: p.pixels for p in pipeline.generate(pipeline.settle(requests))}
    return [made[seed] for seed in sorted(made)]


def _density(half: Picture) -> float:
    """The cracks of the face that one half and its mirror image make, the right half given."""
    return crack_density(np.concatenate([half[:, ::-1], half], axis=1))


def test_one_half_cracks_and_the_other_stays(pipeline: Pipeline) -> None:
    half = np.zeros((SIDE, SIDE), np.uint8)
    half[:, SIDE // 2 :] = 255
    mask = MaskSettings(SourcePicture.of(half), blur=BLUR)
    smooth = _make(
        pipeline,
        [Request(PROMPTS[face], preset="none", seed=FIRST_SEED + face) for face in FACES],
    )
    cracked = _make(
        pipeline,
        [
            Request(
                PROMPTS[face],
                preset="cracked",
                seed=FIRST_SEED + face,
                init=InitSettings(SourcePicture.of(before), 0.75, mask=mask),
            )
            for face, before in zip(FACES, smooth, strict=True)
        ],
    )
    kept = SIDE // 2 - round(2.5 * BLUR)
    for before, after in zip(smooth, cracked, strict=True):
        np.testing.assert_array_equal(after[:, :kept], before[:, :kept])
        assert _density(before[:, SIDE // 2 :]) < 0.03
        assert _density(after[:, SIDE // 2 :]) > 0.08
        assert _density(after[:, : SIDE // 2][:, ::-1]) < 0.04
