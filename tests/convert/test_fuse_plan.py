"""Plans: identity is content, weights are counted, and a finished output is recognised."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from convert import fuse_plan
from convert.fuse_plan import plan_fuse
from convert.recipe import Recipe, load_recipe
from engines.errors import InputError, SettingError
from engines.manifest import Preset
from tests.convert.synthetic import copy_base, edit_json, replace_file


@pytest.fixture
def recipe(demo_base: Path, demo_loras: tuple[Path, Path], tmp_path: Path) -> Recipe:
    """The demo's recipe on files that a test may change."""
    recipe = load_recipe("demo")
    base = copy_base(demo_base, tmp_path / "base")
    loras = []
    for lora, path in zip(recipe.loras, demo_loras, strict=True):
        copy = tmp_path / path.name
        copy.write_bytes(path.read_bytes())
        loras.append(replace(lora, source=str(copy)))
    return replace(recipe, base=str(base), loras=tuple(loras))


def test_identity_is_content_and_not_place(recipe: Recipe) -> None:
    assert plan_fuse(recipe).identity == plan_fuse(load_recipe("demo")).identity


def test_identity_follows_every_setting(recipe: Recipe) -> None:
    sharper = {**recipe.presets, "cracked": Preset(before="sharp ")}
    plans = [
        plan_fuse(recipe),
        plan_fuse(recipe, [0.6, 0.5]),
        plan_fuse(recipe, [0.5, 0.6]),
        plan_fuse(recipe, text_encoder_weights=[0.6, 0.5]),
        plan_fuse(recipe, dtype="fp16"),
        plan_fuse(recipe, dtype="fp32"),
        plan_fuse(replace(recipe, presets=sharper)),
        plan_fuse(replace(recipe, defaults=replace(recipe.defaults, steps=21))),
        plan_fuse(replace(recipe, name="other")),
        plan_fuse(replace(recipe, loras=recipe.loras[::-1])),
        plan_fuse(replace(recipe, loras=recipe.loras[:1])),
    ]
    assert len({plan.identity for plan in plans}) == len(plans)


@pytest.mark.parametrize(
    "file", ["unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"]
)
def test_identity_follows_one_byte_of_the_base(recipe: Recipe, file: str) -> None:
    before = plan_fuse(recipe).identity
    path = Path(recipe.base) / file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    replace_file(path, bytes(content))
    assert plan_fuse(recipe).identity != before


def test_identity_follows_configurations_and_tokenizer(recipe: Recipe) -> None:
    identities = [plan_fuse(recipe).identity]
    edit_json(Path(recipe.base) / "vae/config.json", lambda c: c.update(scaling_factor=0.2))
    identities.append(plan_fuse(recipe).identity)
    replace_file(Path(recipe.base) / "tokenizer/merges.txt", b"#version: 0.2\n")
    identities.append(plan_fuse(recipe).identity)
    assert len(set(identities)) == 3


def test_identity_follows_one_byte_of_a_lora(recipe: Recipe) -> None:
    before = plan_fuse(recipe).identity
    path = Path(recipe.loras[1].source)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    assert plan_fuse(recipe).identity != before


def test_identity_follows_the_tools(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan_fuse(recipe).identity
    monkeypatch.setattr(fuse_plan, "tool_versions", lambda names: {"torch": "0"})
    assert plan_fuse(recipe).identity != before


def test_a_damaged_output_fulfils_nothing(recipe: Recipe, fused_demo: Path, tmp_path: Path) -> None:
    plan = plan_fuse(recipe)
    assert plan.is_fulfilled_by(fused_demo)
    assert not plan.is_fulfilled_by(tmp_path)
    copy = copy_base(fused_demo, tmp_path / "copy")
    assert plan.is_fulfilled_by(copy)
    (copy / "vae" / "config.json").unlink()
    assert not plan.is_fulfilled_by(copy)
    copy = copy_base(fused_demo, tmp_path / "another")
    replace_file(copy / "fuse.json", b"{}")
    assert not plan.is_fulfilled_by(copy)


@pytest.mark.parametrize("weights", [[0.6], [0.6, 0.6, 0.6], []])
def test_a_wrong_number_of_weights_names_the_loras(recipe: Recipe, weights: list[float]) -> None:
    message = rf"{len(weights)} weights were given.* 2 LoRAs.*: cracked_skin_demo, offset_demo\."
    with pytest.raises(SettingError, match=message):
        plan_fuse(recipe, weights)
    with pytest.raises(SettingError, match=message):
        plan_fuse(recipe, text_encoder_weights=weights)


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_named(recipe: Recipe, weight: float) -> None:
    with pytest.raises(SettingError, match="weight of offset_demo"):
        plan_fuse(recipe, [0.6, weight])


def test_an_unknown_dtype_is_named(recipe: Recipe) -> None:
    with pytest.raises(SettingError, match="'int8' is not one of base, fp16, fp32"):
        plan_fuse(recipe, dtype="int8")


def test_the_hash_that_a_recipe_expects_is_checked(recipe: Recipe) -> None:
    digest = plan_fuse(recipe).record.loras[0].sha256
    first, second = recipe.loras
    plan_fuse(replace(recipe, loras=(replace(first, sha256=digest), second)))
    with pytest.raises(InputError, match=f"offset_demo.* but the recipe expects {digest}"):
        plan_fuse(replace(recipe, loras=(first, replace(second, sha256=digest))))


def test_a_sd15_lora_on_the_demo_is_one_error(recipe: Recipe, tmp_path: Path) -> None:
    """Widths of Stable Diffusion 1.5 itself do not fit the small demo."""
    path = tmp_path / "sd15.safetensors"
    tensors = load_file(recipe.loras[0].source)
    wide = {
        name: torch.zeros(t.shape[0], 768) if name.endswith("lora_down.weight") else t
        for name, t in tensors.items()
        if "attn2_to_k" in name
    }
    save_file(wide, path)
    changed = replace(recipe, loras=(replace(recipe.loras[0], source=str(path)),))
    with pytest.raises(InputError, match=r"does not fit \(16\)"):
        plan_fuse(changed)
