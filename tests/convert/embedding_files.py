"""Textual-inversion embeddings in the forms that they come in."""

from pathlib import Path

import torch
from safetensors.torch import save_file


def vectors(count: int, width: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * scale


def write_webui(path: Path, tensor: torch.Tensor) -> Path:
    """What AUTOMATIC1111's webui saves."""
    content = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": torch.nn.Parameter(tensor)},
        "name": "a name of its own",
        "step": 1000,
        "sd_checkpoint": "0123456789",
        "sd_checkpoint_name": "model",
    }
    torch.save(content, path)
    return path


def write_original(path: Path, tensor: torch.Tensor) -> Path:
    """What the authors' own trainer saves: tensors for the ids, and a module for the vectors."""
    content = {
        "string_to_token": {"*": torch.tensor(265)},
        "string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(tensor)}),
    }
    torch.save(content, path)
    return path


def write_concept(path: Path, token: str, tensor: torch.Tensor) -> Path:
    """What diffusers saves: the token, and one vector."""
    torch.save({token: tensor}, path)
    return path


def write_safetensors(path: Path, tensor: torch.Tensor, name: str = "emb_params") -> Path:
    save_file({name: tensor}, path)
    return path
