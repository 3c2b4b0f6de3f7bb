"""Base models: the demo's is read, what cannot be converted is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from convert.base import read_base
from convert.completeness import check_complete
from engines.errors import InputError
from tests.convert.synthetic import copy_base, edit_json, replace_file

Edit = Callable[[dict[str, Any]], object]
UNET_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def base(demo_base: Path, tmp_path: Path) -> Path:
    return copy_base(demo_base, tmp_path / "base")


def test_the_demo_is_read_whole(demo_base: Path) -> None:
    model = read_base(demo_base, "demo")
    check_complete(model)
    unet = load_file(demo_base / UNET_WEIGHTS)
    assert {n: t.shape for n, t in model.components["unet"].tensors.items()} == {
        name: tuple(tensor.shape) for name, tensor in unet.items()
    }
    assert model.documents.keys() == {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "tokenizer/tokenizer_config.json",
        "tokenizer/special_tokens_map.json",
    }


def test_the_text_encoder_has_the_names_of_sd15(base: Path) -> None:
    """With or without the prefix, and without the position ids of old transformers."""
    names = read_base(base, "demo").components["text_encoder"].tensors.keys()
    assert "text_model.encoder.layers.0.mlp.fc1.weight" in names
    assert all(name.startswith("text_model.") for name in names)
    path = base / "text_encoder" / "model.safetensors"
    plain = {name.removeprefix("text_model."): tensor for name, tensor in load_file(path).items()}
    old = {f"text_model.{name}": tensor for name, tensor in plain.items()}
    old["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    for tensors in (plain, old):
        path.unlink()
        save_file(tensors, path)
        assert read_base(base, "demo").components["text_encoder"].tensors.keys() == names


def test_the_vae_of_old_diffusers(base: Path) -> None:
    path = base / "vae" / "diffusion_pytorch_model.safetensors"
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for name, tensor in load_file(path).items():
        for new_part, old_part in names.items():
            name = name.replace(f".{new_part}.", f".{old_part}.")
        old[name] = tensor
    assert any(".proj_attn." in name for name in old)
    path.unlink()
    save_file(old, path)
    check_complete(read_base(base, "demo"))


def test_half_precision_files_are_found(base: Path) -> None:
    (base / UNET_WEIGHTS).rename(base / "unet/diffusion_pytorch_model.fp16.safetensors")
    model = read_base(base, "demo")
    assert model.components["unet"].file.name == "diffusion_pytorch_model.fp16.safetensors"


@pytest.mark.parametrize("half", ["", ".fp16"])
def test_weights_of_torch_save_are_read(base: Path, demo_base: Path, half: str) -> None:
    """As diffusers wrote them before safetensors, with the text encoder's position ids."""
    names = {"text_encoder": "pytorch_model", "unet": "diffusion_pytorch_model"}
    for part, name in names.items():
        path = next((base / part).glob("*.safetensors"))
        tensors = load_file(path)
        if part == "text_encoder":
            tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
        torch.save(tensors, base / part / f"{name}{half}.bin")
        path.unlink()
    ours, expected = read_base(base, "demo"), read_base(demo_base, "demo")
    for part in names:
        found = ours.components[part].tensors
        assert found.keys() == expected.components[part].tensors.keys()
        for name, tensor in expected.components[part].tensors.items():
            assert found[name].read() == tensor.read()


def test_paths_of_this_machine_are_not_written(base: Path) -> None:
    edit_json(base / "model_index.json", lambda c: c.update(_name_or_path="/home/me"))
    edit_json(base / "unet/config.json", lambda c: c.update(_name_or_path="/home/me"))
    edit_json(base / "tokenizer/tokenizer_config.json", lambda c: c.update(name_or_path="/home"))
    model = read_base(base, "demo")
    written = [*model.documents.values(), json.dumps(model.components["unet"].config).encode()]
    assert not any(b"/home" in content for content in written)


def test_what_is_no_part_of_the_output_leaves_the_index(base: Path) -> None:
    edit_json(
        base / "model_index.json",
        lambda c: c.update(
            safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
            requires_safety_checker=True,
        ),
    )
    index = json.loads(read_base(base, "demo").documents["model_index.json"])
    assert index["safety_checker"] == [None, None]
    assert index["requires_safety_checker"] is False


def test_another_vae_replaces_the_base_s(base: Path, demo_base: Path, tmp_path: Path) -> None:
    other = copy_base(demo_base / "vae", tmp_path / "other")
    replaced = read_base(base, "demo", vae=other).components["vae"]
    assert replaced.file.parent == other
    whole = read_base(base, "demo", vae=demo_base).components["vae"]
    assert whole.file.parent == demo_base / "vae"
    with pytest.raises(InputError, match="no VAE at"):
        read_base(base, "demo", vae=tmp_path)
    with pytest.raises(InputError, match=r"is not a VAE .* but a UNet2DConditionModel"):
        read_base(base, "demo", vae=base / "unet")


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        (
            "model_index.json",
            lambda c: c.update(_class_name="StableDiffusionXLPipeline"),
            "is an SDXL model",
        ),
        (
            "model_index.json",
            lambda c: c.update(text_encoder_2=["transformers", "CLIPTextModelWithProjection"]),
            "is an SDXL model",
        ),
        ("model_index.json", lambda c: c.update(_class_name="FluxPipeline"), "for FluxPipeline"),
        ("model_index.json", lambda c: c.pop("vae"), "it has no vae"),
        ("model_index.json", lambda c: c.update(vae=["diffusers", "VQModel"]), "vae is a VQModel"),
        ("model_index.json", lambda c: c.update(adapter=["diffusers", "T2I"]), "it has a adapter"),
        ("unet/config.json", lambda c: c.update(cross_attention_dim=2048), "is an SDXL model"),
        ("unet/config.json", lambda c: c.update(cross_attention_dim=1024), "Stable Diffusion 2.x"),
        ("unet/config.json", lambda c: c.update(cross_attention_dim=768), "attends to 768"),
        ("unet/config.json", lambda c: c.update(in_channels=8), "has 8 input channels"),
        ("unet/config.json", lambda c: c.update(class_embed_type="timestep"), "class_embed_type"),
        ("vae/config.json", lambda c: c.update(latent_channels=16), "16 latent channels"),
        (
            "scheduler/scheduler_config.json",
            lambda c: c.update(prediction_type="v_prediction"),
            "is a v-prediction model",
        ),
    ],
)
def test_other_families_are_refused_by_name(
    base: Path, file: str, edit: Edit, message: str
) -> None:
    edit_json(base / file, edit)
    with pytest.raises(InputError, match=message):
        read_base(base, "demo")


def test_missing_parts_are_listed(base: Path, tmp_path: Path) -> None:
    (base / "vae" / "config.json").unlink()
    (base / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(InputError, match=r"lacks scheduler/.*, vae/config\.json"):
        read_base(base, "demo")
    with pytest.raises(InputError, match=r"holds no model_index\.json"):
        read_base(tmp_path, "demo")
    with pytest.raises(InputError, match="no base model at"):
        read_base(tmp_path / "gone", "demo")
    with pytest.raises(InputError, match="is not a safetensors file"):
        read_base(base / "model_index.json", "demo")


def test_a_bundle_is_no_model(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match=r"tiny is a bundle, .* Give the fused model or the base"):
        read_base(tiny_bundle, "tiny")


def test_a_missing_tokenizer_is_named(base: Path) -> None:
    (base / "tokenizer" / "tokenizer.json").unlink()
    read_base(base, "demo")
    (base / "tokenizer" / "merges.txt").unlink()
    with pytest.raises(InputError, match=r"neither a tokenizer\.json nor"):
        read_base(base, "demo")


@pytest.mark.parametrize(
    ("instead", "message"),
    [
        ("diffusion_pytorch_model.ckpt", "has no weights: neither diffusion_pytorch_model.saf"),
        ("diffusion_pytorch_model.safetensors.index.json", "into shards"),
    ],
)
def test_weights_in_another_form_are_named(base: Path, instead: str, message: str) -> None:
    (base / UNET_WEIGHTS).rename(base / "unet" / instead)
    with pytest.raises(InputError, match=message):
        read_base(base, "demo")


def test_damaged_files_are_named(base: Path, demo_base: Path) -> None:
    replace_file(base / "unet/config.json", b"{not json")
    with pytest.raises(InputError, match=r"unet/config\.json is damaged"):
        read_base(base, "demo")
    replace_file(base / "unet/config.json", (demo_base / "unet/config.json").read_bytes())
    replace_file(base / UNET_WEIGHTS, (demo_base / UNET_WEIGHTS).read_bytes()[:-1])
    with pytest.raises(InputError, match="truncated"):
        read_base(base, "demo")


def test_a_tensor_that_is_missing_or_misshapen_is_named(base: Path, demo_base: Path) -> None:
    tensors = load_file(demo_base / UNET_WEIGHTS)
    del tensors["conv_out.bias"]
    tensors["conv_in.bias"] = torch.zeros(3).half()
    tensors["stray"] = torch.zeros(1).half()
    (base / UNET_WEIGHTS).unlink()
    save_file(tensors, base / UNET_WEIGHTS)
    message = r"conv_in\.bias has the shape .*conv_out\.bias is missing.*stray is unknown"
    with pytest.raises(InputError, match=message):
        check_complete(read_base(base, "demo"))


def test_a_configuration_that_describes_nothing_is_named(base: Path) -> None:
    edit_json(base / "unet/config.json", lambda c: c.update(down_block_types=["NoSuchBlock"] * 4))
    with pytest.raises(InputError, match="NoSuchBlock"):
        check_complete(read_base(base, "demo"))
