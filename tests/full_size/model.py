"""Stable Diffusion 1.5 at its real size with seeded random weights, and LoRAs for all of it.

`python -m tests.full_size.model DIRECTORY` writes the model.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from convert.checkpoint import CONFIGURATION
from convert.clip_vocabulary import clip_tokenizer_files

RANK = 32
FILES = {
    "text_encoder": "model.safetensors",
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
}
KOHYA_PREFIXES = {"unet": "lora_unet_", "text_encoder": "lora_te_"}


def build_networks() -> dict[str, torch.nn.Module]:
    """The three networks without values, from the published configurations."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    configs = {
        name: json.loads((CONFIGURATION / name / "config.json").read_text()) for name in FILES
    }
    with torch.device("meta"):
        networks: dict[str, Any] = {
            "text_encoder": CLIPTextModel(CLIPTextConfig(**configs["text_encoder"])),
            "unet": UNet2DConditionModel.from_config(configs["unet"]),
            "vae": AutoencoderKL.from_config(configs["vae"]),
        }
    return networks


def write_full_size_model(target: Path) -> Path:
    """Write a diffusers directory of 2.1 GB in fp16."""
    shutil.copytree(CONFIGURATION, target)
    for name, content in clip_tokenizer_files().items():
        (target / "tokenizer" / name).parent.mkdir(exist_ok=True)
        (target / "tokenizer" / name).write_bytes(content)
    generator = np.random.default_rng(15)
    for part, network in build_networks().items():
        tensors = {
            name: _initial(generator, name, tuple(value.shape))
            for name, value in network.named_parameters()
        }
        save_file(tensors, target / part / FILES[part], {"format": "pt"})
    return target


def write_full_size_lora(path: Path, seed: int) -> Path:
    """Write a LoRA of rank 32 for every layer that kohya's trainer changes, in fp16."""
    generator = np.random.default_rng(seed)
    tensors: dict[str, NDArray[np.generic]] = {}
    for key, outputs, inputs in _trained_layers():
        kernel = (1, 1) if len(inputs) > 1 else ()
        down = generator.standard_normal((RANK, inputs[0], *kernel), np.float32) / RANK
        up = generator.standard_normal((outputs, RANK, *kernel), np.float32) / 1000
        tensors[f"{key}.lora_down.weight"] = down.astype(np.float16)
        tensors[f"{key}.lora_up.weight"] = up.astype(np.float16)
        tensors[f"{key}.alpha"] = np.array(RANK, np.float16)
    save_file(tensors, path)
    return path


def _trained_layers() -> Iterator[tuple[str, int, tuple[int, ...]]]:
    """Key, outputs and inputs (with the kernel's sides) of each layer under an attention."""
    networks = build_networks()
    for part, prefix in KOHYA_PREFIXES.items():
        for name, layer in networks[part].named_modules():
            if not isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
                continue
            if part == "unet" and ".attentions." not in name:
                continue
            stem = "text_model." if part == "text_encoder" else ""
            full = stem + name.removeprefix("text_model.")
            outputs, *inputs = layer.weight.shape
            yield prefix + full.replace(".", "_"), outputs, tuple(inputs)


def _initial(
    generator: np.random.Generator, name: str, shape: tuple[int, ...]
) -> NDArray[np.float16]:
    """torch's own initial values: they keep activations finite in fp16, through every norm."""
    if len(shape) == 1:
        one = name.endswith("weight")
        return np.full(shape, 1 if one else 0, np.float16)
    bound = 1 / np.sqrt(np.prod(shape[1:]))
    values = generator.random(shape, np.float32)
    values *= 2 * bound
    values -= bound
    return values.astype(np.float16)


if __name__ == "__main__":
    write_full_size_model(Path(sys.argv[1]))
