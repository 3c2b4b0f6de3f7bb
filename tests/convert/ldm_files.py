"""Checkpoints in the original layout, made from diffusers models with diffusers' own tables.

The names are counted here as CompVis' `openaimodel.py` and `model.py` build the modules; diffusers'
conversion functions, given each name as its own value, say which of its names each one becomes.
"""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.convert.synthetic import Tensors

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
TEXT_PREFIX = "cond_stage_model.transformer.text_model."
POSITION_IDS = f"{TEXT_PREFIX}embeddings.position_ids"


class _Name(str):
    """A name that passes through diffusers' functions in the place of its tensor."""

    shape = ()
    ndim = 0


def original_names(component: str, config: dict[str, Any]) -> dict[str, str]:
    """For each parameter in diffusers' layout, its name in the original one, by diffusers."""
    from diffusers.loaders.single_file_utils import (
        convert_ldm_unet_checkpoint,
        convert_ldm_vae_checkpoint,
    )

    count, prefix, convert = {
        "unet": (_unet_names, UNET_PREFIX, convert_ldm_unet_checkpoint),
        "vae": (_vae_names, VAE_PREFIX, convert_ldm_vae_checkpoint),
    }[component]
    names = {prefix + name: _Name(prefix + name) for name in count(config)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # diffusers warns of its own deprecations
        converted: dict[str, str] = convert(names, config)
    assert sorted(converted.values()) == sorted(names), "diffusers does not know all names"
    return {name: str(original) for name, original in converted.items()}


def make_checkpoint(model: Path) -> Tensors:
    """The weights of a diffusers directory as a checkpoint has them, with `position_ids`."""
    tensors: Tensors = {POSITION_IDS: torch.arange(77)[None]}
    text_encoder = load_file(model / "text_encoder" / "model.safetensors")
    for name, tensor in text_encoder.items():
        tensors[TEXT_PREFIX + name.removeprefix("text_model.")] = tensor
    for part in ("unet", "vae"):
        config = json.loads((model / part / "config.json").read_text())
        names = original_names(part, config)
        weights = load_file(model / part / "diffusion_pytorch_model.safetensors")
        assert names.keys() == weights.keys()
        for name, tensor in weights.items():
            is_attention = part == "vae" and ".attentions." in name and tensor.ndim == 2
            tensors[names[name]] = tensor[:, :, None, None] if is_attention else tensor
    return tensors


def ema_copies(tensors: Tensors) -> Tensors:
    """What the trainer adds: a second UNet under names without dots, and two counters."""
    copies = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): tensor + 1
        for name, tensor in tensors.items()
        if name.startswith(UNET_PREFIX)
    }
    counters = {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7)}
    return {**copies, **counters}


def noise_schedule() -> Tensors:
    """The trainer's buffers."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return {
        "betas": betas,
        "alphas_cumprod": torch.cumprod(1 - betas, 0),
        "sqrt_one_minus_alphas_cumprod": torch.cumprod(1 - betas, 0).sqrt(),
        "posterior_mean_coef1": betas.clone(),
    }


def _unet_names(config: dict[str, Any]) -> Iterator[str]:
    for end in ("time_embed.0", "time_embed.2", "input_blocks.0.0", "out.0", "out.2"):
        yield from _both(end)
    widths, layers = config["block_out_channels"], config["layers_per_block"]
    number, width = 0, widths[0]
    skips = [width]
    for level, out in enumerate(widths):
        for _ in range(layers):
            number += 1
            yield from _resnet(f"input_blocks.{number}.0", width != out)
            width = out
            skips.append(width)
            if config["down_block_types"][level].startswith("CrossAttn"):
                yield from _transformer(f"input_blocks.{number}.1")
        if level < len(widths) - 1:
            number += 1
            yield from _both(f"input_blocks.{number}.0.op")
            skips.append(width)
    yield from _resnet("middle_block.0", False)
    yield from _transformer("middle_block.1")
    yield from _resnet("middle_block.2", False)
    number = 0
    for level, kind in enumerate(config["up_block_types"]):
        for number_in_level in range(layers + 1):
            skips.pop()
            yield from _resnet(f"output_blocks.{number}.0", True)
            place = 1
            if kind.startswith("CrossAttn"):
                yield from _transformer(f"output_blocks.{number}.1")
                place = 2
            if number_in_level == layers and level < len(widths) - 1:
                yield from _both(f"output_blocks.{number}.{place}.conv")
            number += 1
    assert not skips


def _resnet(block: str, changes_width: bool) -> Iterator[str]:
    for layer in ("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3"):
        yield from _both(f"{block}.{layer}")
    if changes_width:
        yield from _both(f"{block}.skip_connection")


def _transformer(block: str) -> Iterator[str]:
    inside = f"{block}.transformer_blocks.0"
    for layer in ("norm", "proj_in", "proj_out"):
        yield from _both(f"{block}.{layer}")
    for attention in ("attn1", "attn2"):
        yield from (f"{inside}.{attention}.to_{x}.weight" for x in "qkv")
        yield from _both(f"{inside}.{attention}.to_out.0")
    for layer in ("ff.net.0.proj", "ff.net.2", "norm1", "norm2", "norm3"):
        yield from _both(f"{inside}.{layer}")


def _vae_names(config: dict[str, Any]) -> Iterator[str]:
    widths, layers = config["block_out_channels"], config["layers_per_block"]
    yield from _both("quant_conv")
    yield from _both("post_quant_conv")
    for half in ("encoder", "decoder"):
        for end in ("conv_in", "norm_out", "conv_out"):
            yield from _both(f"{half}.{end}")
        yield from _vae_resnet(f"{half}.mid.block_1", False)
        yield from _vae_resnet(f"{half}.mid.block_2", False)
        for part in ("norm", "q", "k", "v", "proj_out"):
            yield from _both(f"{half}.mid.attn_1.{part}")
    width = widths[0]
    for level, out in enumerate(widths):
        for layer in range(layers):
            yield from _vae_resnet(f"encoder.down.{level}.block.{layer}", width != out)
            width = out
        if level < len(widths) - 1:
            yield from _both(f"encoder.down.{level}.downsample.conv")
    for level in reversed(range(len(widths))):
        for layer in range(layers + 1):
            yield from _vae_resnet(f"decoder.up.{level}.block.{layer}", width != widths[level])
            width = widths[level]
        if level:
            yield from _both(f"decoder.up.{level}.upsample.conv")


def _vae_resnet(block: str, changes_width: bool) -> Iterator[str]:
    for layer in ("norm1", "conv1", "norm2", "conv2"):
        yield from _both(f"{block}.{layer}")
    if changes_width:
        yield from _both(f"{block}.nin_shortcut")


def _both(layer: str) -> Iterator[str]:
    yield f"{layer}.weight"
    yield f"{layer}.bias"


def write_checkpoint(path: Path, tensors: Tensors) -> Path:
    """Save tensors as a safetensors file, and say where."""
    save_file(tensors, path)
    return path
