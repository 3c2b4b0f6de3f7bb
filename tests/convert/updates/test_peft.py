"""Files that PEFT and diffusers write, against PEFT's own merging."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from convert.fuse_plan import plan_fuse
from convert.lora import count_ranks, read_lora
from engines.errors import InputError
from tests.convert.fusing import fuse, recipe_of
from tests.convert.synthetic import Tensors

TARGETS = ["to_q", "to_out.0", "proj_in", "conv1", "ff.net.0.proj"]
CASES: dict[str, dict[str, Any]] = {
    "plain": {"r": 4, "lora_alpha": 2},
    "patterns of rank and alpha": {
        "r": 4,
        "lora_alpha": 4,
        "rank_pattern": {"to_q": 2},
        "alpha_pattern": {"to_q": 6, "mid_block.resnets.0.conv1": 1},
    },
    "rank-stabilised": {"r": 4, "lora_alpha": 2, "use_rslora": True},
    "DoRA": {"r": 4, "lora_alpha": 8, "use_dora": True},
    "with biases": {"r": 4, "lora_alpha": 2, "lora_bias": True, "target_modules": ["to_out.0"]},
}


pytestmark = pytest.mark.filterwarnings(
    # PEFT takes the bias of lora_B for a shard of its weight
    "ignore:Adapter 'default'. 8 LoRA tensor"
)


@pytest.fixture
def unet(tiny_model: Path) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(tiny_model / "unet")


def _config(case: str) -> Any:
    from peft import LoraConfig

    return LoraConfig(**{"target_modules": TARGETS} | CASES[case])


def _randomise(adapted: Any) -> None:
    generator = torch.Generator().manual_seed(3)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data += torch.randn(parameter.shape, generator=generator) * 0.1


def _check(model: Path, lora: Path, expected: Tensors, out: Path) -> None:
    ours = fuse(recipe_of(model, lora), out, [1.0], dtype="fp32").unet
    before = load_file(model / "unet" / "diffusion_pytorch_model.safetensors")
    assert ours.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-5, atol=1e-6, msg=name)
    assert sum(not torch.equal(ours[name], before[name]) for name in before) >= 6


@pytest.mark.parametrize("case", CASES)
def test_peft_s_own_files(tiny_model: Path, tmp_path: Path, unet: Any, case: str) -> None:
    from peft import get_peft_model

    adapted = get_peft_model(unet, _config(case))
    _randomise(adapted)
    adapted.save_pretrained(tmp_path / "adapter")
    expected = adapted.merge_and_unload().state_dict()
    lora = tmp_path / "adapter" / "adapter_model.safetensors"
    _check(tiny_model, lora, expected, tmp_path / "out")


@pytest.mark.parametrize("case", CASES)
def test_diffusers_files_with_metadata(
    tiny_model: Path, tmp_path: Path, unet: Any, case: str
) -> None:
    from diffusers import StableDiffusionPipeline
    from peft import get_peft_model_state_dict

    unet.add_adapter(_config(case))
    _randomise(unet)
    StableDiffusionPipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=get_peft_model_state_dict(unet),
        unet_lora_adapter_metadata=unet.peft_config["default"].to_dict(),
    )
    path = tmp_path / "pytorch_lora_weights.safetensors"
    assert all(key.startswith("unet.") for key in load_file(path))
    unet.fuse_lora()
    unet.unload_lora()
    _check(tiny_model, path, unet.state_dict(), tmp_path / "out")


def _peft_file(directory: Path, config: object) -> Path:
    layer = "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    path = directory / "adapter_model.safetensors"
    save_file(
        {f"{layer}.lora_A.weight": torch.ones(2, 4), f"{layer}.lora_B.weight": torch.ones(4, 2)},
        path,
    )
    if config is not None:
        (directory / "adapter_config.json").write_text(json.dumps(config))
    return path


def test_without_its_configuration_peft_s_file_has_no_scale(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Put the adapter_config\.json that came with it"):
        read_lora(_peft_file(tmp_path, None))


def test_an_alpha_in_the_configuration_is_recorded(tmp_path: Path) -> None:
    [row] = count_ranks(read_lora(_peft_file(tmp_path, {"lora_alpha": 7})))
    assert (row.rank, row.alpha) == (2, 7.0)


def test_the_configuration_is_part_of_the_identity(
    tiny_model: Path, tmp_path: Path, unet: Any
) -> None:
    from peft import get_peft_model

    adapted = get_peft_model(unet, _config("plain"))
    adapted.save_pretrained(tmp_path)
    recipe = recipe_of(tiny_model, tmp_path / "adapter_model.safetensors")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    identities, counts = set(), []
    for layer in ("down_blocks.0.resnets.0.conv1", "mid_block.resnets.0.conv1"):
        config["alpha_pattern"] = {layer: 7}
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        plan = plan_fuse(recipe)
        identities.add(plan.identity)
        counts.append(plan.record.loras[0].ranks)
    assert counts[0] == counts[1]
    assert len(identities) == 2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], "not a JSON object"),
        ({}, "lora_alpha is no number"),
        ({"lora_alpha": True}, "lora_alpha is no number"),
        ({"lora_alpha": float("inf")}, "lora_alpha is no number"),
        ({"lora_alpha": 1, "peft_type": "LOKR"}, "of the type 'LOKR'"),
        ({"lora_alpha": 1, "fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"lora_alpha": 1, "alpha_pattern": []}, ""),
        ({"lora_alpha": 1, "alpha_pattern": [1]}, "alpha_pattern is not a JSON object"),
        ({"lora_alpha": 1, "alpha_pattern": {"(a+)+$": 1}}, r"no layer's name .*'\(a\+\)\+\$'"),
        ({"lora_alpha": 1, "alpha_pattern": {"to_q": "1"}}, "alpha_pattern has an entry"),
    ],
)
def test_wrong_configurations(tmp_path: Path, config: object, message: str) -> None:
    path = _peft_file(tmp_path, config)
    if not message:
        read_lora(path)
        return
    with pytest.raises(InputError, match=message):
        read_lora(path)


def test_metadata_that_are_not_diffusers(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    layer = "unet.mid_block.attentions.0.proj_in"
    tensors = {
        f"{layer}.lora_A.weight": torch.ones(2, 4),
        f"{layer}.lora_B.weight": torch.ones(4, 2),
    }
    for text in ("{", "[]"):
        save_file(tensors, path, {"lora_adapter_metadata": text})
        with pytest.raises(InputError, match="lora_adapter_metadata are not a JSON object"):
            read_lora(path)
