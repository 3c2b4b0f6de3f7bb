"""The demo's look, measured on fixed seeds: smooth at 0,0, cracked and glowing at 0.6,0.6.

The smooth pictures are diffusers' own, of the base as it is committed: the one with weights 0,0.
The others are `runtime`'s, of the bundle at 0.6,0.6.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from demo.look import Picture, crack_density, face_region, glow_share, luminance_range
from runtime.pipeline import Pipeline
from runtime.request import Request

PROMPTS = (
    "portrait of a woman, blue skin, red background, long blonde hair",
    "portrait of a man, tan skin, yellow background, short black hair",
    "portrait of a woman, green skin, purple background, short red hair",
    "portrait of a woman, light skin, orange background, blue hair",
    "portrait of a man, grey skin, green background, brown hair, blue eyes",
    "portrait of a woman, tan skin, grey background, black hair",
    "portrait of a man, light skin, blue background, brown hair",
    "portrait of a woman, brown skin, teal background, long pink hair",
)
FIRST_SEED = 10

# diffusers' scheduler turns a tensor into an array in a way that numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def _measure(pictures: list[Picture], what: Callable[[Picture], float]) -> list[float]:
    return [what(picture) for picture in pictures]


@pytest.fixture(scope="module")
def smooth(demo_base: Path) -> list[Picture]:
    """Weights 0,0, with the trigger words in the prompt: they mean nothing to the base."""
    import torch
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(demo_base, dtype=torch.float32)
    pipeline.text_encoder.to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
        pipeline.scheduler.config, use_karras_sigmas=True
    )
    made = pipeline(
        [f"cracked skin, {prompt}" for prompt in PROMPTS],
        num_inference_steps=20,
        guidance_scale=4.0,
        height=128,
        width=128,
        generator=[torch.Generator().manual_seed(FIRST_SEED + i) for i in range(len(PROMPTS))],
    )
    return [np.asarray(image) for image in made.images]


def _generate(bundle: Path, preset: str, before: str = "") -> list[Picture]:
    requests = [
        Request(f"{before}{prompt}", preset=preset, seed=FIRST_SEED + i)
        for i, prompt in enumerate(PROMPTS)
    ]
    with Pipeline.open(bundle, "cpu") as pipeline:
        made = {p.settings.seed: p.pixels for p in pipeline.generate(pipeline.settle(requests))}
    return [made[seed] for seed in sorted(made)]


@pytest.fixture(scope="module")
def plain(demo_bundle: Path) -> list[Picture]:
    """Weights 0.6,0.6, and no trigger word in the prompt."""
    return _generate(demo_bundle, "none")


@pytest.fixture(scope="module")
def cracked(demo_bundle: Path) -> list[Picture]:
    return _generate(demo_bundle, "cracked")


@pytest.fixture(scope="module")
def glowing(demo_bundle: Path) -> list[Picture]:
    """The preset's orange glow."""
    return _generate(demo_bundle, "glowing")


@pytest.fixture(scope="module")
def glowing_cyan(demo_bundle: Path) -> list[Picture]:
    return _generate(demo_bundle, "none", "glowing cracked skin, cyan glow, ")


def test_the_skin_cracks_where_the_prompt_says_so(
    smooth: list[Picture], plain: list[Picture], cracked: list[Picture]
) -> None:
    without, unasked, asked = (_measure(p, crack_density) for p in (smooth, plain, cracked))
    assert max(without) < 0.03, "the base cracks by itself"
    assert max(unasked) < 0.03, "the skin cracks unasked"
    assert min(asked) > 0.04, "some skin stays smooth"
    assert median(asked) > 0.1, "the cracks are few"


def test_glowing_skin_glows_in_the_colour_that_is_asked_for(
    smooth: list[Picture],
    cracked: list[Picture],
    glowing: list[Picture],
    glowing_cyan: list[Picture],
) -> None:
    assert median(_measure(smooth, glow_share)) < 0.02
    assert median(_measure(cracked, glow_share)) < 0.02
    assert median(_measure(glowing, glow_share)) > 0.04
    assert median(_measure(glowing_cyan, glow_share)) > 0.15
    assert median(map(_warmth, glowing)) > median(map(_warmth, glowing_cyan)) + 20


def test_cracks_and_glow_widen_the_range_of_light(
    smooth: list[Picture], cracked: list[Picture], glowing: list[Picture]
) -> None:
    flat = median(_measure(smooth, luminance_range))
    assert median(_measure(cracked, luminance_range)) > 1.3 * flat
    assert median(_measure(glowing, luminance_range)) > 1.5 * flat


def _warmth(picture: Picture) -> float:
    """By how much red is stronger than blue on the face."""
    red, _, blue = picture[face_region(*picture.shape[:2])].astype(np.float64).mean(0)
    return float(red - blue)
