"""The smallest model of the family: one block a network, random weights, the demo's tokenizer.

Its export takes seconds, where the demo model's takes a minute.
"""

import shutil
from pathlib import Path
from typing import Any

import torch

from tests.convert.synthetic import kohya_module, write_lora

WIDTH = 32
MODULE = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def write_tiny_model(
    base: Path, target: Path, *, seed: int = 0, in_channels: int = 4, width: int = WIDTH
) -> Path:
    """Write a model whose index, scheduler and tokenizer are those of `base`.

    The UNet is `width` channels wide, which its attention divides among two heads.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    for name in ("scheduler", "tokenizer"):
        shutil.copytree(base / name, target / name)
    shutil.copy(base / "model_index.json", target)
    unet: Any = UNet2DConditionModel(
        sample_size=8,
        in_channels=in_channels,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(width, width),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=8,
    )
    vae: Any = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=16,
    )
    text: Any = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=796,
            hidden_size=WIDTH,
            intermediate_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            bos_token_id=794,
            eos_token_id=795,
        )
    )
    unet.save_pretrained(target / "unet")
    vae.save_pretrained(target / "vae")
    text.save_pretrained(target / "text_encoder")
    return target


def write_tiny_lora(path: Path, seed: int = 0) -> Path:
    """A LoRA that changes one layer of the tiny UNet."""
    return write_lora(path, kohya_module(MODULE, (4, WIDTH), (WIDTH, 4), 4.0, seed))
