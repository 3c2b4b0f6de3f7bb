"""Block weights: which layer is in which block, and the fused sum as diffusers makes it."""

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from convert.base import read_base
from convert.block_weights import BLOCKS, block_weight, check_block_weights
from convert.fuse import run_fuse
from convert.fuse_plan import plan_fuse
from convert.layer_names import find_original, original_names
from convert.recipe import load_recipe
from tests.convert.fusing import load_fused

# Each block has a weight that no other has; 0 and 1 are for what lies outside of them.
WEIGHTS = tuple((2 + i) / 20 for i in range(len(BLOCKS)))
BY_BLOCK = dict(zip(BLOCKS, WEIGHTS, strict=True))

PLACES = {
    "conv_in": 0.0,
    "down_blocks.0.resnets.0.conv1": "IN01",
    "down_blocks.0.attentions.0.proj_in": "IN01",
    "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q": "IN02",
    "down_blocks.0.downsamplers.0.conv": 0.0,
    "down_blocks.1.attentions.0.proj_in": "IN04",
    "down_blocks.1.attentions.1.proj_in": "IN05",
    "down_blocks.2.attentions.0.proj_in": "IN07",
    "down_blocks.2.attentions.1.proj_in": "IN08",
    "down_blocks.3.resnets.1.conv2": 0.0,
    "mid_block.attentions.0.proj_out": "MID",
    "mid_block.resnets.1.conv1": "MID",
    "up_blocks.0.resnets.2.conv1": 0.0,
    "up_blocks.0.upsamplers.0.conv": 0.0,
    "up_blocks.1.attentions.0.proj_in": "OUT03",
    "up_blocks.1.attentions.2.proj_in": "OUT05",
    "up_blocks.1.upsamplers.0.conv": "OUT05",
    "up_blocks.2.resnets.0.conv1": "OUT06",
    "up_blocks.2.attentions.2.proj_in": "OUT08",
    "up_blocks.3.attentions.0.proj_in": "OUT09",
    "up_blocks.3.attentions.2.transformer_blocks.0.ff.net.2": "OUT11",
    "conv_out": 1.0,
    "time_embedding.linear_1": 1.0,
}


@pytest.mark.parametrize("layer", PLACES)
def test_each_layer_is_in_the_webui_s_block(demo_base: Path, layer: str) -> None:
    """The demo's UNet has the blocks of Stable Diffusion 1.5's."""
    base = read_base(demo_base, "demo")
    assert f"{layer}.weight" in base.components["unet"].tensors
    original = find_original(layer, original_names(base.components["unet"].config))
    place = PLACES[layer]
    expected = BY_BLOCK[place] if isinstance(place, str) else place
    assert block_weight(WEIGHTS, "unet", original) == expected
    assert block_weight((), "unet", original) == 1.0


def test_the_text_encoder_is_the_base() -> None:
    assert block_weight(WEIGHTS, "text_encoder", None) == BY_BLOCK["BASE"]


def test_wrong_lists_are_named() -> None:
    assert check_block_weights(()) == ""
    assert check_block_weights(WEIGHTS) == ""
    assert "16 numbers instead of 17 (BASE,IN01," in check_block_weights(WEIGHTS[1:])
    assert "not all of them finite" in check_block_weights((*WEIGHTS[1:], float("nan")))


def test_the_fused_model_is_as_diffusers_scales_blocks(
    demo_base: Path, demo_loras: tuple[Path, Path], tmp_path: Path
) -> None:
    """A recipe's block weights multiply the weight of either part."""
    path = tmp_path / "blocks.toml"
    path.write_text(
        f'name = "blocks"\nbase = "{demo_base}"\n'
        f'[[loras]]\nname = "a"\nsource = "{demo_loras[0]}"\nweight = 0.8\n'
        f"block_weights = [{', '.join(map(str, WEIGHTS))}]\n"
    )
    recipe = load_recipe(str(path))
    plan = plan_fuse(recipe, text_encoder_weights=[0.5], dtype="fp32")
    assert plan.record.loras[0].block_weights == WEIGHTS
    plain = replace(recipe, loras=(replace(recipe.loras[0], block_weights=()),))
    assert plan_fuse(plain, text_encoder_weights=[0.5], dtype="fp32").identity != plan.identity
    run_fuse(plan, tmp_path / "out", force=False, progress=False)
    ours = load_fused(tmp_path / "out")

    from diffusers import StableDiffusionPipeline

    at = {block: 0.8 * weight for block, weight in BY_BLOCK.items()}
    scales = {
        "text_encoder": 0.5 * BY_BLOCK["BASE"],
        "unet": {
            "down": {
                f"block_{i}": [at[f"IN{n:02}"] for n in numbers]
                for i, numbers in enumerate([(1, 2), (4, 5), (7, 8)])
            },
            "mid": at["MID"],
            "up": {f"block_{i}": [at[f"OUT{3 * i + n:02}"] for n in range(3)] for i in (1, 2, 3)},
        },
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # diffusers and peft warn of their own deprecations
        pipeline = StableDiffusionPipeline.from_pretrained(demo_base, torch_dtype=torch.float32)
        pipeline.load_lora_weights(demo_loras[0], adapter_name="a")
        pipeline.set_adapters("a", scales)
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
    for name, tensor in pipeline.unet.state_dict().items():
        torch.testing.assert_close(ours.unet[name], tensor, rtol=0, atol=1e-6, msg=name)
    for name, tensor in pipeline.text_encoder.state_dict().items():
        own = ours.text_encoder[f"text_model.{name.removeprefix('text_model.')}"]
        torch.testing.assert_close(own, tensor, rtol=0, atol=1e-6, msg=name)
    base = load_file(demo_base / "unet" / "diffusion_pytorch_model.safetensors")
    assert any(not torch.equal(ours.unet[name], tensor.float()) for name, tensor in base.items())
