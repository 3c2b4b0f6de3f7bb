"""The contact sheet: eight prompts across, what was fused and said down, drawn with diffusers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from PIL import Image

from engines.publish import publish_file

PROMPTS = (
    "portrait of a woman, {}blue skin, red background, long blonde hair",
    "portrait of a man, beard, {}tan skin, yellow background, short black hair",
    "portrait of a woman, {}green skin, purple background, short red hair",
    "portrait of a man, bald, {}pale skin, black background",
    "portrait of a woman, {}dark skin, teal background, long pink hair",
    "portrait of a man, {}red skin, white background, white hair",
    "portrait of a woman, {}light skin, orange background, blue hair",
    "portrait of a man, {}grey skin, green background, brown hair, blue eyes",
)
FIRST_SEED = 10
STEPS = 20
CELL = 132


@dataclass(frozen=True)
class Row:
    """Weights of the cracked-skin and the offset LoRA, and what goes into the prompts."""

    cracked: float
    offset: float
    words: str


ROWS = (
    Row(0, 0, ""),
    Row(0, 0, "cracked skin, "),
    Row(0.6, 0, "cracked skin, "),
    Row(0.6, 0.6, "cracked skin, "),
    Row(0.6, 0.6, "glowing cracked skin, cyan glow, "),
    Row(0.6, 0.6, "glowing cracked skin, orange glow, "),
    Row(1, 1, "cracked skin, "),
    Row(0.6, 0.6, ""),
)


def fused_pipeline(demo: Path, cracked: float, offset: float) -> StableDiffusionPipeline:
    """The packed demo model with its LoRAs fused by diffusers, float32, DPM++ 2M Karras."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        demo / "base", safety_checker=None, torch_dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    weights = {"cracked_skin_demo": cracked, "offset_demo": offset}
    weights = {name: weight for name, weight in weights.items() if weight}
    for name in weights:
        pipeline.load_lora_weights(demo / "loras" / f"{name}.safetensors", adapter_name=name)
    if weights:
        pipeline.set_adapters(list(weights), list(weights.values()))
        pipeline.fuse_lora(adapter_names=list(weights))
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
        pipeline.scheduler.config, use_karras_sigmas=True
    )
    return pipeline


def draw_row(
    pipeline: StableDiffusionPipeline, words: str, first_seed: int = FIRST_SEED, steps: int = STEPS
) -> list[npt.NDArray[np.uint8]]:
    """The eight prompts with `words`, uint8 [128,128,3] each, at guidance scale 4."""
    seeds = range(first_seed, first_seed + len(PROMPTS))
    images = pipeline(
        [prompt.format(words) for prompt in PROMPTS],
        num_inference_steps=steps,
        guidance_scale=4.0,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        height=128,
        width=128,
    ).images
    return [np.asarray(image) for image in images]


def draw_sheet(demo: Path, out: Path, steps: int = STEPS) -> None:
    """Draw all `ROWS` with the model packed in `demo`, as one PNG file."""
    sheet = Image.new("RGB", (CELL * len(PROMPTS), CELL * len(ROWS)), "white")
    for number, row in enumerate(ROWS):
        pipeline = fused_pipeline(demo, row.cracked, row.offset)
        for column, picture in enumerate(draw_row(pipeline, row.words, steps=steps)):
            sheet.paste(Image.fromarray(picture), (column * CELL, number * CELL))
    with publish_file(out) as temporary:
        few = sheet.quantize(256)
        sheet.quantize(palette=few, dither=Image.Dither.FLOYDSTEINBERG).save(
            temporary, "PNG", optimize=True
        )
