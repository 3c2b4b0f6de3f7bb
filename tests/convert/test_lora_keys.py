"""The names that LoRA files have for the same layers, against diffusers' reading of them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from convert.base import read_base
from convert.lora import read_lora
from convert.lora_keys import LoraKey, looks_like_lora, namings_of, parse_key
from convert.match import match_loras
from convert.model import BaseModel
from convert.updates.low_rank import LowRank
from engines.errors import InputError
from tests.convert.fusing import fuse, fuse_with_diffusers, recipe_of
from tests.convert.ldm_files import UNET_PREFIX, original_names
from tests.convert.synthetic import Tensors, kohya_module, write_lora

WIDTH = 32
RANK = 3
BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"
SELF_ATTENTION = "text_model.encoder.layers.1.self_attn"

UNET_LAYERS = {
    f"{BLOCK}.attn1.to_q": (WIDTH, WIDTH),
    f"{BLOCK}.attn2.to_out.0": (WIDTH, WIDTH),
    f"{BLOCK}.ff.net.0.proj": (8 * WIDTH, WIDTH),
    "mid_block.attentions.0.proj_in": (WIDTH, WIDTH, 1, 1),
    "down_blocks.0.resnets.0.conv1": (WIDTH, WIDTH, 3, 3),
    "down_blocks.0.resnets.0.time_emb_proj": (WIDTH, 4 * WIDTH),
    "down_blocks.0.downsamplers.0.conv": (WIDTH, WIDTH, 3, 3),
    "up_blocks.0.resnets.1.conv_shortcut": (WIDTH, 2 * WIDTH, 1, 1),
    "up_blocks.0.upsamplers.0.conv": (WIDTH, WIDTH, 3, 3),
    "time_embedding.linear_2": (4 * WIDTH, 4 * WIDTH),
    "conv_in": (WIDTH, 4, 3, 3),
    "conv_out": (4, WIDTH, 3, 3),
}
TEXT_LAYERS = {
    f"{SELF_ATTENTION}.q_proj": (WIDTH, WIDTH),
    f"{SELF_ATTENTION}.out_proj": (WIDTH, WIDTH),
    "text_model.encoder.layers.0.mlp.fc1": (WIDTH, WIDTH),
}


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> BaseModel:
    return read_base(tiny_model, "tiny")


@pytest.fixture(scope="module")
def originals(tiny_model: Path) -> dict[str, str]:
    """For each module of the tiny UNet, its name in the original layout, by diffusers' tables."""
    config = json.loads((tiny_model / "unet" / "config.json").read_text())
    return {
        name.removesuffix(".weight"): original.removeprefix(UNET_PREFIX).removesuffix(".weight")
        for name, original in original_names("unet", config).items()
        if name.endswith(".weight")
    }


def _factors(shape: tuple[int, ...]) -> Tensors:
    ones = (1,) * (len(shape) - 2)
    module = kohya_module("x", (RANK, *shape[1:]), (shape[0], RANK, *ones), seed=sum(shape))
    return {key.removeprefix("x."): value for key, value in module.items()}


def _file(
    path: Path, unet: dict[str, str], text_encoder: dict[str, str], down: str, up: str
) -> Path:
    """A LoRA of all layers, each under its name here, with these names of its factors."""
    tensors: Tensors = {}
    layers = [(unet[name], shape) for name, shape in UNET_LAYERS.items() if name in unet]
    layers += [(text_encoder[name], shape) for name, shape in TEXT_LAYERS.items()]
    for name, shape in layers:
        factors = _factors(shape)
        tensors[name + down] = factors["lora_down.weight"]
        tensors[name + up] = factors["lora_up.weight"]
    return write_lora(path, tensors)


def _flat(prefix: str, names: dict[str, str]) -> dict[str, str]:
    return {name: prefix + other.replace(".", "_") for name, other in names.items()}


def _dotted(prefix: str, names: dict[str, str]) -> dict[str, str]:
    return {name: prefix + other for name, other in names.items()}


def _namings(
    originals: dict[str, str],
) -> dict[str, tuple[dict[str, str], dict[str, str], str, str]]:
    unet, text = ({name: name for name in layers} for layers in (UNET_LAYERS, TEXT_LAYERS))
    new_text = {name: name.removeprefix("text_model.") for name in text}
    kohya, peft = (".lora_down.weight", ".lora_up.weight"), (".lora_A.weight", ".lora_B.weight")
    linear = (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight")
    return {
        "kohya": (_flat("lora_unet_", unet), _flat("lora_te_", text), *kohya),
        "kohya, LDM": (_flat("lora_unet_", originals), _flat("lora_te_", text), *kohya),
        "LyCORIS on transformers 5": (
            _flat("lora_unet_", unet),
            _flat("lora_te_", new_text),
            *kohya,
        ),
        "LyCORIS": (_flat("lycoris_", unet), _flat("lycoris_", text), *kohya),
        "LyCORIS with networks": (_flat("lycoris_unet_", unet), _flat("lycoris_te_", text), *kohya),
        "diffusers": (_dotted("unet.", unet), _dotted("text_encoder.", text), *peft),
        "diffusers without PEFT": (
            _dotted("unet.", unet),
            _dotted("text_encoder.", text),
            ".lora.down.weight",
            ".lora.up.weight",
        ),
        "diffusers, linear layers": (
            _dotted("unet.", unet),
            _dotted("text_encoder.", text),
            *linear,
        ),
        "diffusers on transformers 5": (
            _dotted("unet.", unet),
            _dotted("text_encoder.", new_text),
            *peft,
        ),
        "diffusers without prefixes": (unet, text, *peft),
        "an adapter's name": (
            _dotted("unet.", unet),
            _dotted("text_encoder.", text),
            ".lora_A.default.weight",
            ".lora_B.default.weight",
        ),
        "ComfyUI": (
            _dotted("diffusion_model.", originals),
            _dotted("text_encoders.clip_l.transformer.", text),
            *kohya,
        ),
        "a checkpoint's": (
            _dotted("model.diffusion_model.", originals),
            _dotted("text_encoder.", text),
            *kohya,
        ),
    }


OTHERWISE_CALLED = {
    "LyCORIS on transformers 5": ("kohya",),
    "an adapter's name": ("diffusers",),
    "a checkpoint's": ("ComfyUI", "diffusers"),
}


@pytest.mark.parametrize("naming", _namings({}))
def test_every_naming_means_the_same_layers(
    base: BaseModel, originals: dict[str, str], tmp_path: Path, naming: str
) -> None:
    path = _file(tmp_path / "lora.safetensors", *_namings(originals)[naming])
    assert looks_like_lora(load_file(path))
    called = OTHERWISE_CALLED.get(naming, (naming.split()[0].strip(","),))
    assert namings_of(load_file(path)) == called
    [match] = match_loras([read_lora(path)], base)
    found = {f"{update.component}.{update.target}": update for update in match.updates}
    layers = {f"unet.{name}.weight": shape for name, shape in UNET_LAYERS.items()}
    layers |= {f"text_encoder.{name}.weight": shape for name, shape in TEXT_LAYERS.items()}
    assert found.keys() == layers.keys()
    for name, shape in layers.items():
        difference = found[name].difference
        assert isinstance(difference, LowRank)
        assert difference.scale == 1.0
        assert (
            bytes(difference.down.read()) == _factors(shape)["lora_down.weight"].numpy().tobytes()
        )
        assert bytes(difference.up.read()) == _factors(shape)["lora_up.weight"].numpy().tobytes()


def test_the_names_of_old_attention_processors_are_as_diffusers_reads_them(
    tiny_model: Path, tmp_path: Path
) -> None:
    tensors: Tensors = {}
    for attention in ("attn1", "attn2"):
        for layer in ("to_q", "to_k", "to_v", "to_out"):
            key = f"unet.{BLOCK}.{attention}.processor.{layer}_lora"
            factors = _factors((WIDTH, WIDTH))
            tensors[f"{key}.down.weight"] = factors["lora_down.weight"]
            tensors[f"{key}.up.weight"] = factors["lora_up.weight"] + len(tensors)
    for layer in ("to_q", "to_k", "to_v", "to_out"):
        key = f"text_encoder.{SELF_ATTENTION}.{layer}_lora"
        factors = _factors((WIDTH, WIDTH))
        tensors[f"{key}.down.weight"] = factors["lora_down.weight"]
        tensors[f"{key}.up.weight"] = factors["lora_up.weight"] + len(tensors)
    _check_with_diffusers(tiny_model, [write_lora(tmp_path / "old.safetensors", tensors)], [0.8])


def test_three_loras_of_three_namings_as_diffusers_fuses_them(
    tiny_model: Path, tmp_path: Path
) -> None:
    """The third as LCM and Hyper-SD are: kohya's names, the UNet only, at full weight.

    Its alpha is one for all layers, as theirs are: diffusers loses an attention layer's own.
    """
    unet, text = ({name: name for name in layers} for layers in (UNET_LAYERS, TEXT_LAYERS))
    linear = {name: name for name, shape in UNET_LAYERS.items() if len(shape) == 2}
    first = _file(
        tmp_path / "first.safetensors",
        _dotted("unet.", unet),
        _dotted("text_encoder.", text),
        ".lora_A.weight",
        ".lora_B.weight",
    )
    second = _file(
        tmp_path / "second.safetensors",
        _flat("lora_unet_", linear),
        _flat("lora_te_", text),
        ".lora_down.weight",
        ".lora_up.weight",
    )
    distilled: Tensors = {}
    for i, (name, shape) in enumerate(UNET_LAYERS.items()):
        key = f"lora_unet_{name.replace('.', '_')}"
        rank = 2 + i % 3
        up = (shape[0], rank, *(1 for _ in shape[2:]))
        distilled |= kohya_module(key, (rank, *shape[1:]), up, 1.5, seed=i)
    third = write_lora(tmp_path / "third.safetensors", distilled)
    _check_with_diffusers(tiny_model, [first, second, third], [0.6, 0.6, 1.0])
    _check_with_diffusers(tiny_model, [third, first, second], [1.0, -0.3, 0.0])


def _check_with_diffusers(model: Path, loras: list[Path], weights: list[float]) -> None:
    expected = fuse_with_diffusers(model, tuple(loras), weights, ["unet", "text_encoder"])
    out = loras[0].parent / "-".join(map(str, weights))
    ours = fuse(recipe_of(model, *loras), out, weights, dtype="fp32")
    for component in ("unet", "text_encoder"):
        own, theirs = getattr(ours, component), getattr(expected, component)
        assert own.keys() == theirs.keys()
        for name, tensor in theirs.items():
            torch.testing.assert_close(own[name], tensor, rtol=0, atol=2e-6, msg=name)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (
            "lora_unet_mid_block_attentions_0_proj_in.alpha",
            ("lora_unet_mid_block_attentions_0_proj_in", "unet", "alpha"),
        ),
        ("lora_unet_x.weight", ("lora_unet_x", "unet", "weight")),
        ("lora_te_x.something.new", ("lora_te_x", "text_encoder", "something.new")),
        (
            "unet.mid_block.attentions.0.proj_in.lora_magnitude_vector.weight",
            ("unet.mid_block.attentions.0.proj_in", "unet", "lora_magnitude_vector"),
        ),
        (
            "base_model.model.text_model.encoder.layers.0.mlp.fc1.lora_B.bias",
            (
                "base_model.model.text_model.encoder.layers.0.mlp.fc1",
                "text_encoder",
                "lora_up.bias",
            ),
        ),
        (
            "base_model.model.unet.conv_in.lora_A.weight",
            ("base_model.model.unet.conv_in", "unet", "lora_down.weight"),
        ),
    ],
)
def test_parts_of_a_key(key: str, expected: tuple[str, str, str]) -> None:
    part = parse_key(key)
    assert isinstance(part, LoraKey)
    assert (part.module, part.component, part.role) == expected


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".",
        "...",
        "lora_unet_",
        "lora_unet_x",
        "lora_unet_x.",
        "lycoris_unknown.lora_down.weight",
        "lora_down.weight",
        "alpha",
        "unet.conv_in.weight",
        "vae.decoder.conv_in.lora_A.weight",
        "unet.conv_in.lora_C.weight",
        "model.diffusion_model.out.2.bias",
        "x" * 100_000,
        "." * 100_000,
    ],
)
def test_what_is_no_key_of_a_lora(key: str) -> None:
    assert parse_key(key) is None
    if not key.startswith(("lora", "lycoris", "vae")):
        assert not looks_like_lora([key])


def test_one_layer_under_two_names_is_an_error(base: BaseModel, tmp_path: Path) -> None:
    twice = {
        **kohya_module("lora_unet_conv_in", (1, 4, 3, 3), (WIDTH, 1, 1, 1)),
        **kohya_module("lora_unet_input_blocks_0_0", (1, 4, 3, 3), (WIDTH, 1, 1, 1)),
    }
    lora = read_lora(write_lora(tmp_path / "x.safetensors", twice))
    with pytest.raises(InputError, match=r"\(the same layer as lora_unet_conv_in\)"):
        match_loras([lora], base)
    with pytest.raises(InputError, match="has the same tensor twice"):
        tensors = {
            "unet.conv_in.lora_A.weight": torch.ones(1),
            "unet.conv_in.lora.down.weight": torch.ones(1),
        }
        read_lora(write_lora(tmp_path / "y.safetensors", tensors))
