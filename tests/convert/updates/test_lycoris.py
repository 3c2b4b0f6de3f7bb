"""Every algebra that LyCORIS trains, against LyCORIS' own forward pass, layer by layer.

LyCORIS makes a network for a whole tiny model, with every layer that it can change; we fuse the
file that it saves, and each layer of the fused model has to make of a random input what the
original layer makes of it with LyCORIS' module hooked in.
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from convert.fuse_record import read_record
from tests.convert.fusing import fuse, recipe_of

PRESET = """
enable_conv = true
unet_target_module = ["Transformer2DModel", "ResnetBlock2D", "Downsample2D", "Upsample2D"]
unet_target_name = ["conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2"]
text_encoder_target_module = ["CLIPAttention", "CLIPMLP"]
text_encoder_target_name = []
"""

CASES: dict[str, tuple[dict[str, Any], float, set[str]]] = {
    "LoRA and LoCon": ({"algo": "locon"}, -0.7, {"LoRA", "LoCon"}),
    "rank-stabilised": ({"algo": "locon", "rs_lora": True}, 0.6, {"LoRA", "LoCon"}),
    "Tucker LoCon and norms": (
        {"algo": "locon", "use_tucker": True, "train_norm": True},
        0.6,
        {"LoRA", "LoCon with a Tucker core", "norm"},
    ),
    "LoHa": ({"algo": "loha"}, 0.6, {"LoHa"}),
    "Tucker LoHa": ({"algo": "loha", "use_tucker": True}, -1.5, {"LoHa", "LoHa with Tucker cores"}),
    "LoKr": ({"algo": "lokr", "network_dim": 2, "conv_dim": 2, "factor": 4}, 0.6, {"LoKr"}),
    "LoKr of two products": (
        {"algo": "lokr", "network_dim": 1, "conv_dim": 1, "factor": 4, "decompose_both": True},
        0.6,
        {"LoKr"},
    ),
    "Tucker LoKr": (
        {"algo": "lokr", "network_dim": 1, "conv_dim": 1, "factor": 4, "use_tucker": True},
        0.6,
        {"LoKr", "LoKr with a Tucker core"},
    ),
    "whole LoKr, whose alpha means nothing": (
        {"algo": "lokr", "full_matrix": True},
        0.6,
        {"LoKr"},
    ),
    "full differences": ({"algo": "full"}, -0.3, {"full difference"}),
    "IA3 on inputs and outputs": ({"algo": "ia3"}, 0.6, {"IA3"}),
    "DoRA": (
        {"algo": "locon", "dora_wd": True},
        1.0,
        {"DoRA of LoRA", "DoRA of LoCon"},
    ),
    "DoRA with lengths for the inputs": (
        {"algo": "locon", "dora_wd": True, "wd_on_output": False},
        1.0,
        {"DoRA of LoRA", "DoRA of LoCon"},
    ),
    "DoRA of LoHa": ({"algo": "loha", "dora_wd": True}, 1.0, {"DoRA of LoHa"}),
    "DoRA of LoKr": (
        {"algo": "lokr", "network_dim": 2, "conv_dim": 2, "factor": 4, "dora_wd": True},
        1.0,
        {"DoRA of LoKr"},
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _quiet_lycoris() -> None:
    logging.getLogger("LyCORIS").setLevel(logging.ERROR)


def _load(model: Path) -> dict[str, torch.nn.Module]:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

    networks = {
        "unet": UNet2DConditionModel.from_pretrained(model / "unet"),
        "text_encoder": CLIPTextModel.from_pretrained(model / "text_encoder"),
    }
    return {name: network.eval().double() for name, network in networks.items()}


def _layers(networks: dict[str, torch.nn.Module]) -> dict[str, torch.nn.Module]:
    return {
        f"{component}.{name}": layer
        for component, network in networks.items()
        for name, layer in network.named_modules()
    }


def _input(layer: torch.nn.Module) -> torch.Tensor:
    """A random input for a layer of any of the kinds that LyCORIS changes."""
    match layer:
        case torch.nn.Linear():
            shape: tuple[int, ...] = (5, layer.in_features)
        case torch.nn.Conv2d():
            shape = (2, layer.in_channels, 6, 6)
        case torch.nn.GroupNorm():
            shape = (2, layer.num_channels, 4, 4)
        case torch.nn.LayerNorm():
            shape = (5, *layer.normalized_shape)
        case _:
            raise AssertionError(type(layer))
    return torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize("case", CASES)
def test_each_layer_does_what_lycoris_makes_it_do(
    tiny_model: Path, tmp_path: Path, case: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LyCORIS looks for GPU kernels
        from lycoris.kohya import create_network

    options, weight, kinds = CASES[case]
    options = {"network_dim": 4, "network_alpha": 2.0, "conv_dim": 3, "conv_alpha": 1.0} | options
    (tmp_path / "preset.toml").write_text(PRESET)
    networks = _load(tiny_model)
    names = {id(layer): name for name, layer in _layers(networks).items()}
    torch.manual_seed(5)
    lycoris = create_network(
        weight,
        vae=None,
        text_encoder=networks["text_encoder"],
        unet=networks["unet"],
        preset=str(tmp_path / "preset.toml"),
        warn_on_unmatched=False,
        **options,
    )
    if options["algo"] == "ia3":
        _train_some_on_inputs(lycoris)
    lycoris.apply_to(networks["text_encoder"], networks["unet"], True, True)
    for parameter in lycoris.parameters():
        # Values that float32 has, so that the file holds what the forward pass uses.
        noise = torch.randn(parameter.shape) * 0.2
        parameter.data = (parameter.data.float() + noise).double()
    lycoris.eval().requires_grad_(False)
    lycoris.save_weights(str(tmp_path / "lora.safetensors"), torch.float32, {})

    out = tmp_path / "out"
    fuse(recipe_of(tiny_model, tmp_path / "lora.safetensors"), out, [weight], dtype="fp32")
    record = read_record(out / "fuse.json").loras[0]
    assert {row.kind for row in record.ranks} == kinds
    fused, base = _layers(_load(out)), _layers(_load(tiny_model))
    changed = {names[id(module.org_module[0])]: module for module in lycoris.loras}
    assert len(changed) > 60
    for name, module in changed.items():
        layer = module.org_module[0]
        value = _input(base[name])
        expected = layer(value)
        torch.testing.assert_close(fused[name](value), expected, rtol=1e-5, atol=2e-5, msg=name)
        assert not torch.allclose(base[name](value), expected, rtol=1e-3, atol=1e-3), name
    for name in fused.keys() - changed.keys():
        for own, old in zip(
            fused[name].parameters(recurse=False), base[name].parameters(recurse=False), strict=True
        ):
            assert torch.equal(own, old), name


def _train_some_on_inputs(network: Any) -> None:
    """Let every other module of an IA3 network scale inputs, as `train_on_input` does."""
    for module in network.loras[::2]:
        layer = module.org_module[0]
        width = layer.weight.shape[1]
        module.train_input = True
        module.on_input.fill_(1)
        module.weight.data = torch.zeros((1, width, 1, 1) if layer.weight.dim() == 4 else width)
