"""Files made for a test: LoRAs of any shape, and copies of the demo base with one thing changed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]


def kohya_module(
    key: str, down: tuple[int, ...], up: tuple[int, ...], alpha: float | None = None, seed: int = 0
) -> Tensors:
    """The tensors of one module with normally distributed values."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        f"{key}.lora_down.weight": torch.randn(down, generator=generator) * 0.1,
        f"{key}.lora_up.weight": torch.randn(up, generator=generator) * 0.1,
    }
    if alpha is not None:
        tensors[f"{key}.alpha"] = torch.tensor(alpha)
    return tensors


def write_lora(path: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> Path:
    save_file(tensors, path, metadata)
    return path


def copy_base(base: Path, target: Path) -> Path:
    """The base with every file a link, so that a test replaces only what it changes."""
    for path in base.rglob("*"):
        if path.is_file():
            copy = target / path.relative_to(base)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(path)
    return target


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.unlink()
    path.write_text(json.dumps(content))


def replace_file(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)
