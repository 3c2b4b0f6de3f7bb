"""LoRA modules with kohya's names and file format (kohya-ss/sd-scripts, networks/lora.py)."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextModel

from engines.publish import publish_file

UNET_BLOCKS = ("Transformer2DModel",)
TEXT_BLOCKS = ("CLIPAttention", "CLIPSdpaAttention", "CLIPMLP")
Wrapped = nn.Linear | nn.Conv2d


class LoraModule(nn.Module):
    """A low-rank change to one linear layer or 1x1 convolution, whose `forward` it takes over."""

    def __init__(self, name: str, wrapped: Wrapped, rank: int, alpha: float) -> None:
        """Take over `wrapped`; `name` is kohya's for it."""
        super().__init__()
        self.name, self.alpha = name, alpha
        self.scale, self.strength = alpha / rank, 1.0
        self.down: Wrapped
        self.up: Wrapped
        if isinstance(wrapped, nn.Conv2d):
            self.down = nn.Conv2d(wrapped.in_channels, rank, 1, bias=False)
            self.up = nn.Conv2d(rank, wrapped.out_channels, 1, bias=False)
        else:
            self.down = nn.Linear(wrapped.in_features, rank, bias=False)
            self.up = nn.Linear(rank, wrapped.out_features, bias=False)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)
        self.original = wrapped.forward
        wrapped.forward = self.forward  # type: ignore[method-assign, assignment]

    def forward(self, x: Tensor) -> Tensor:
        """The layer's own output plus the scaled low-rank one."""
        change: Tensor = self.up(self.down(x))
        return self.original(x) + change * (self.scale * self.strength)


def layers(unet: UNet2DConditionModel, text: CLIPTextModel) -> Iterator[tuple[str, Wrapped]]:
    """Every layer that kohya's `networks.lora` adapts by default, after its name there."""
    for prefix, root, blocks in (
        ("lora_unet", unet, UNET_BLOCKS),
        ("lora_te", text, TEXT_BLOCKS),
    ):
        for path, block in root.named_modules():
            if type(block).__name__ not in blocks:
                continue
            for inner, layer in block.named_modules():
                full = f"{path}.{inner}"
                if prefix == "lora_te" and not full.startswith("text_model."):
                    full = f"text_model.{full}"
                if isinstance(layer, nn.Linear) or (
                    isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)
                ):
                    yield f"{prefix}_{full.replace('.', '_')}", layer


def attach(
    unet: UNet2DConditionModel, text: CLIPTextModel, rank: int, alpha: float
) -> list[LoraModule]:
    """A LoRA module on every adapted layer."""
    return [LoraModule(name, layer, rank, alpha) for name, layer in list(layers(unet, text))]


def save_lora(modules: list[LoraModule], path: Path, metadata: Mapping[str, object]) -> None:
    """Write fp16 weights and alphas; metadata values become strings, as kohya's are."""
    tensors: dict[str, Tensor] = {}
    for module in modules:
        tensors[f"{module.name}.lora_down.weight"] = _half(module.down.weight)
        tensors[f"{module.name}.lora_up.weight"] = _half(module.up.weight)
        tensors[f"{module.name}.alpha"] = torch.tensor(module.alpha, dtype=torch.float16)
    with publish_file(path) as temporary:
        save_file(tensors, temporary, {key: str(value) for key, value in metadata.items()})


def _half(weight: Tensor) -> Tensor:
    return weight.detach().half().contiguous()
