"""The trained parts as they are committed: one fp16 pipeline and the LoRA files."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from engines.publish import publish_directory, publish_file


def pack(base: Path, vae: Path, tokenizer: Path, loras: list[Path], out: Path) -> None:
    """Write `out/base` (fp16, with the tuned `vae`) and `out/loras`."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        base, vae=AutoencoderKL.from_pretrained(vae), safety_checker=None
    )
    with publish_directory(out, force=True, marker="base/model_index.json") as folder:
        pipeline.to(torch.float16).save_pretrained(folder / "base")
        shutil.copytree(tokenizer, folder / "base" / "tokenizer", dirs_exist_ok=True)
        for config in (folder / "base").rglob("*.json"):
            _drop_origin(config)
        name_as_published(folder / "base")
        (folder / "loras").mkdir()
        for lora in loras:
            shutil.copy(lora, folder / "loras")


def name_as_published(base: Path) -> None:
    """Write a pipeline as Stable Diffusion 1.5's own repository does, for programs old and new.

    Its text encoder's tensors are named `text_model.…`, which transformers before version 5 needs;
    its scheduler's configuration says that samples are not clipped, which diffusers' DDIM needs.
    """
    weights = base / "text_encoder" / "model.safetensors"
    tensors = load_file(weights)
    renamed = {f"text_model.{name.removeprefix('text_model.')}": t for name, t in tensors.items()}
    with publish_file(weights) as temporary:
        save_file(renamed, temporary, {"format": "pt"})
    config = base / "scheduler" / "scheduler_config.json"
    content = json.loads(config.read_text())
    content["clip_sample"] = False
    config.write_text(json.dumps(content, indent=2) + "\n")


def install(packed: Path, out: Path) -> None:
    """Replace `out/base`, `out/loras` and `out/grid.png` by the packed ones."""
    a_lora = next((packed / "loras").iterdir()).name
    for name, marker in (("base", "model_index.json"), ("loras", a_lora)):
        with publish_directory(out / name, force=True, marker=marker) as folder:
            shutil.copytree(packed / name, folder, dirs_exist_ok=True)
    with publish_file(out / "grid.png") as temporary:
        shutil.copy(packed / "grid.png", temporary)


def _drop_origin(config: Path) -> None:
    """Remove the folder that the weights were loaded from, which is this machine's own."""
    content = json.loads(config.read_text())
    if isinstance(content, dict) and content.pop("_name_or_path", None) is not None:
        config.write_text(json.dumps(content, indent=2) + "\n")
