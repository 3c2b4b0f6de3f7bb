"""The packaged configurations and shapes, against Stable Diffusion's own names and sizes."""

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from convert.base import read_base
from convert.checkpoint import CONFIGURATION
from convert.completeness import check_complete
from convert.known_shapes import SHAPES, known_shapes
from engines.errors import InputError
from tests.convert.ldm_files import (
    POSITION_IDS,
    TEXT_PREFIX,
    original_names,
)
from tests.convert.make_shapes import shapes_of_networks
from tests.convert.synthetic import copy_base, edit_json


def _sparse(path: Path, shapes: Iterable[tuple[str, tuple[int, ...]]]) -> Path:
    """A safetensors file of fp16 zeros that takes no room on the disk."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes:
        start, end = end, end + 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return path


def _shapes_of_stable_diffusion(in_channels: int) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a v1-5-pruned checkpoint, the shapes by diffusers' own defaults."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        unet: Any = UNet2DConditionModel(cross_attention_dim=768, in_channels=in_channels)
        vae: Any = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        )
        text: Any = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=768,
                intermediate_size=3072,
                num_attention_heads=12,
                num_hidden_layers=12,
            )
        )
    assert sum(p.numel() for p in unet.parameters()) == 859_520_964 + 2880 * (in_channels - 4)
    assert sum(p.numel() for p in vae.parameters()) == 83_653_863
    assert sum(p.numel() for p in text.parameters()) == 123_060_480
    shapes: dict[str, tuple[int, ...]] = {POSITION_IDS: (1, 77)}
    for name, parameter in text.named_parameters():
        shapes[TEXT_PREFIX + name.removeprefix("text_model.")] = tuple(parameter.shape)
    for part, network in (("unet", unet), ("vae", vae)):
        names = original_names(part, network.config)
        for name, parameter in network.named_parameters():
            shape = tuple(parameter.shape)
            is_attention = part == "vae" and ".attentions." in name and len(shape) == 2
            shapes[names[name]] = (*shape, 1, 1) if is_attention else shape
    return shapes


@pytest.mark.parametrize("in_channels", [4, 9])
def test_stable_diffusion_s_own_size(tmp_path: Path, in_channels: int) -> None:
    """Names and shapes only: the packaged configurations fit, and every name is used."""
    shapes = _shapes_of_stable_diffusion(in_channels)
    assert len(shapes) == 1131
    base = read_base(_sparse(tmp_path / "v1-5.safetensors", shapes.items()), "v1-5")
    check_complete(base)
    used = [t.name for c in base.components.values() for t in c.tensors.values()]
    assert sorted([*used, POSITION_IDS]) == sorted(shapes)
    assert base.components["unet"].config["in_channels"] == in_channels


def test_the_packaged_configurations_make_a_directory_that_is_read(tmp_path: Path) -> None:
    """They pass the checks that every diffusers directory has to pass."""
    target = copy_base(CONFIGURATION, tmp_path / "base")
    edit_json(target / "unet" / "config.json", lambda c: c.update(cross_attention_dim=1024))
    with pytest.raises(InputError, match="neither a tokenizer"):
        read_base(target, "x")


def test_the_packaged_shapes_are_those_of_the_packaged_configurations() -> None:
    built = shapes_of_networks()
    assert json.loads(SHAPES.read_text()) == built
    config = json.loads((CONFIGURATION / "unet" / "config.json").read_text())
    assert known_shapes("unet", config) == {n: tuple(s) for n, s in built["unet"].items()}
    assert known_shapes("unet", {**config, "use_linear_projection": True}) is None
