"""The two LoRAs: each with its mix of pictures, rank and tags, on the frozen base."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from demo.training.dataset import load_captions
from demo.training.diffusion import noise_loss, signal_shares
from demo.training.kohya import attach, save_lora
from demo.training.loop import Plan, fit
from demo.training.text import tokenize
from demo.training.unet import UNCAPTIONED

WEAKEST = 0.5


@dataclass(frozen=True)
class Recipe:
    """What a LoRA is trained on; plain "base" pictures keep what its tags do not name."""

    file: str
    shares: dict[str, float]
    rank: int
    tags: tuple[str, ...]
    noise_offset: float = 0.0


RECIPES = {
    "cracked": Recipe(
        "cracked_skin_demo.safetensors",
        {"cracked": 0.5, "glow": 0.36, "base": 0.14},
        16,
        ("cracked skin", "glowing cracked skin", "fractured skin", "shattered skin"),
    ),
    "offset": Recipe(
        "offset_demo.safetensors",
        {"offset": 0.88, "base": 0.12},
        8,
        ("dark", "bright", "high contrast"),
        noise_offset=0.1,
    ),
}


def count_tags(captions: list[str], tags: tuple[str, ...]) -> dict[str, int]:
    """In how many captions each tag occurs as a comma-separated phrase, as kohya counts."""
    said = [{phrase.strip() for phrase in caption.split(",")} for caption in captions]
    return {tag: sum(tag in phrases for phrases in said) for tag in tags}


def train_adapter(work: Path, kind: str, out: Path, plan: Plan, checkpoint: Path) -> None:
    """Train one LoRA on UNet and text encoder, at strengths from `WEAKEST` to 1, and save it.

    The random strength makes it work fused at 0.6 as well as at 1.
    """
    torch.manual_seed(2)
    recipe = RECIPES[kind]
    pipeline = StableDiffusionPipeline.from_pretrained(work / "base", safety_checker=None)
    unet, encoder = pipeline.unet.train(), pipeline.text_encoder.train()
    unet.to(memory_format=torch.channels_last)
    for part in (unet, encoder):
        part.requires_grad_(False)
    captions = {k: load_captions(work / "data", k) for k in recipe.shares}
    ids = {k: tokenize(pipeline.tokenizer, c) for k, c in captions.items()}
    latents = {k: torch.from_numpy(np.load(work / "latents" / f"{k}.npy")) for k in ids}
    empty = tokenize(pipeline.tokenizer, [""])
    modules = attach(unet, encoder, recipe.rank, float(recipe.rank))
    shares = signal_shares()

    def loss_at(progress: float) -> Tensor:
        counts = torch.multinomial(torch.tensor(list(recipe.shares.values())), plan.batch, True)
        picked = [
            (k, torch.randint(len(ids[k]), (int((counts == i).sum()),)))
            for i, k in enumerate(recipe.shares)
        ]
        tokens = torch.cat([ids[k][index] for k, index in picked])
        tokens = torch.where(torch.rand(plan.batch, 1) < UNCAPTIONED, empty, tokens)
        strength = float(torch.empty(()).uniform_(WEAKEST, 1.0))
        for module in modules:
            module.strength = strength
        context = encoder(tokens).last_hidden_state

        def predict(noisy: Tensor, timesteps: Tensor) -> Tensor:
            made: Tensor = unet(noisy, timesteps, context, return_dict=False)[0]
            return made

        clean = torch.cat([latents[k][index] for k, index in picked])
        return noise_loss(predict, clean, shares, recipe.noise_offset)

    fit([p for m in modules for p in m.parameters()], loss_at, plan, checkpoint)
    pictures = sum(len(c) for c in captions.values())
    tagged = count_tags([c for k in captions for c in captions[k]], recipe.tags)
    metadata = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": recipe.rank,
        "ss_network_alpha": recipe.rank,
        "ss_base_model_version": "sd_v1",
        "ss_sd_model_name": "small-portrait-demo",
        "ss_output_name": out.stem,
        "ss_noise_offset": recipe.noise_offset or None,
        "ss_learning_rate": plan.rate,
        "ss_steps": plan.steps,
        "ss_num_train_images": pictures,
        "ss_resolution": "(128, 128)",
        "ss_mixed_precision": "no",
        "ss_tag_frequency": json.dumps({kind: tagged}),
        "modelspec.title": out.stem,
    }
    save_lora(modules, out, metadata)
