"""Pictures of prompts that change and of prompts that AND joins, against torch's.

diffusers knows neither, but lets a callback exchange the embeddings between two steps; the sum of
several prompts is written out here over its UNet and scheduler.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from runtime.pipeline import Pipeline
from runtime.request import Request
from tests.runtime.against_diffusers import EXACT_DB, Reference, make, psnr

FIRST, SECOND = "portrait of a woman, blue skin", "cracked skin, orange glow"
NEGATIVE = "beard, smooth skin"
STEPS, CFG, SIDE, SEED = 8, 4.0, 96, 5

# torch's tensors meet numpy 2 inside diffusers' scheduler.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def theirs(reference: Reference) -> Any:
    from diffusers import DDIMScheduler

    pipeline = reference.networks
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    return pipeline


def _make(pipeline: Pipeline, prompt: str, cfg: float = CFG) -> NDArray[np.uint8]:
    request = Request(
        prompt, NEGATIVE, seed=SEED, steps=STEPS, cfg=cfg, sampler="DDIM", width=SIDE, height=SIDE
    )
    return make(pipeline, request)


def _embed(theirs: Any, *prompts: str) -> torch.Tensor:
    ids = theirs.tokenizer(
        list(prompts), padding="max_length", max_length=77, return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        embedded: torch.Tensor = theirs.text_encoder(ids)[0]
    return embedded


@pytest.mark.parametrize(
    ("prompt", "prompt_after"),
    [
        (f"[{FIRST}:{SECOND}:3]", lambda step: SECOND if step >= 3 else FIRST),
        (f"[{FIRST}:{SECOND}:0.4]", lambda step: SECOND if step >= 3 else FIRST),
        (f"[{FIRST}|{SECOND}]", lambda step: SECOND if step % 2 else FIRST),
    ],
)
def test_a_prompt_that_changes_between_steps(
    exact: Pipeline, theirs: Any, prompt: str, prompt_after: Callable[[int], str]
) -> None:
    """`prompt_after` gives the prompt of the step that follows so many steps."""

    def exchange(_: Any, step: int, timestep: int, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"prompt_embeds": _embed(theirs, NEGATIVE, prompt_after(step + 1))}

    wanted = theirs(
        FIRST,
        negative_prompt=NEGATIVE,
        num_inference_steps=STEPS,
        guidance_scale=CFG,
        width=SIDE,
        height=SIDE,
        generator=torch.Generator().manual_seed(SEED),
        callback_on_step_end=exchange,
    ).images[0]
    assert psnr(_make(exact, prompt), np.asarray(wanted)) >= EXACT_DB


def test_one_step_earlier_or_later_shows(exact: Pipeline) -> None:
    """Without this, the threshold could be so low that it says nothing."""
    made = {when: _make(exact, f"[{FIRST}:{SECOND}:{when}]") for when in (2, 3, 4)}
    assert psnr(made[3], made[2]) < EXACT_DB - 10
    assert psnr(made[3], made[4]) < EXACT_DB - 10


@pytest.mark.parametrize(
    ("prompt", "weights", "cfg"),
    [
        (f"{FIRST} AND {SECOND}", (1.0, 1.0), CFG),
        (f"{FIRST} :1.2 AND {SECOND} :-0.4", (1.2, -0.4), CFG),
        (f"{FIRST}:0.7 AND {SECOND}:0.6", (0.7, 0.6), 1.0),
    ],
)
@torch.no_grad()
def test_prompts_that_and_joins(
    exact: Pipeline, theirs: Any, prompt: str, weights: tuple[float, float], cfg: float
) -> None:
    texts = _embed(theirs, NEGATIVE, FIRST, SECOND)
    scheduler = theirs.scheduler
    scheduler.set_timesteps(STEPS)
    side = SIDE // theirs.vae_scale_factor
    latents = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(SEED))
    latents = latents * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        u, first, second = theirs.unet(latents.repeat(3, 1, 1, 1), timestep, texts)[0]
        noise = u + cfg * (weights[0] * (first - u) + weights[1] * (second - u))
        latents = scheduler.step(noise[None], timestep, latents)[0]
    decoded = theirs.vae.decode(latents / theirs.vae.config.scaling_factor)[0]
    (wanted,) = theirs.image_processor.postprocess(decoded, output_type="pil")
    assert psnr(_make(exact, prompt, cfg), np.asarray(wanted)) >= EXACT_DB
