"""Every file that is no base of the family is refused by its name, in one line."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from convert.base import read_base
from convert.kinds import recognise
from convert.weight_file import open_weight_file
from engines.errors import InputError

UNET = "model.diffusion_model."
CONV_IN = f"{UNET}input_blocks.0.0.weight"
TO_K = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
SD1: Mapping[str, tuple[int, ...]] = {CONV_IN: (8, 4, 3, 3), TO_K: (8, 768)}

FILES: Mapping[str, tuple[Mapping[str, tuple[int, ...]], str]] = {
    "sd2": ({**SD1, TO_K: (8, 1024)}, "a Stable Diffusion 2.x checkpoint"),
    "sd2 by its text encoder": (
        {**SD1, "cond_stage_model.model.ln_final.weight": (4,)},
        "a Stable Diffusion 2.x checkpoint",
    ),
    "sdxl": (
        {
            CONV_IN: (8, 4, 3, 3),
            "conditioner.embedders.0.transformer.text_model.final_layer_norm.weight": (4,),
            "conditioner.embedders.1.model.ln_final.weight": (4,),
        },
        "an SDXL checkpoint",
    ),
    "sdxl unet": (
        {
            CONV_IN: (8, 4, 3, 3),
            f"{UNET}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (8, 2048),
        },
        "an SDXL checkpoint",
    ),
    "sdxl refiner": (
        {CONV_IN: (8, 4, 3, 3), "conditioner.embedders.0.model.ln_final.weight": (4,)},
        "an SDXL refiner checkpoint",
    ),
    "sd3": (
        {f"{UNET}joint_blocks.0.context_block.attn.qkv.weight": (4,)},
        "a Stable Diffusion 3 checkpoint",
    ),
    "flux": ({"double_blocks.0.img_attn.norm.key_norm.scale": (4,)}, "a Flux checkpoint"),
    "flux in comfy": (
        {f"{UNET}double_blocks.0.img_attn.norm.key_norm.scale": (4,)},
        "a Flux checkpoint",
    ),
    "other": ({f"{UNET}patchify_proj.weight": (4,)}, "a checkpoint of another family"),
    "v-prediction": ({**SD1, "v_pred": (0,)}, "a v-prediction checkpoint"),
    "pix2pix": ({**SD1, CONV_IN: (8, 8, 3, 3)}, "an InstructPix2Pix checkpoint"),
    "depth": ({**SD1, CONV_IN: (8, 5, 3, 3)}, "a depth-to-image checkpoint"),
    "x4": ({**SD1, CONV_IN: (8, 7, 3, 3)}, "an x4 upscaler checkpoint"),
    "channels": ({**SD1, CONV_IN: (8, 13, 3, 3)}, "a checkpoint with 13 input channels"),
    "no input": ({TO_K: (8, 768)}, "a damaged checkpoint"),
    "controlnet": ({"control_model.time_embed.0.weight": (4,)}, "a ControlNet"),
    "controlnet with a model": ({**SD1, "control_model.out.0.weight": (4,)}, "a ControlNet"),
    "controlnet in diffusers": (
        {"controlnet_cond_embedding.conv_in.weight": (4,), "down_blocks.0.resnets.0": (4,)},
        "a ControlNet",
    ),
    "ip-adapter": ({"ip_adapter.1.to_k_ip.weight": (4,)}, "an IP-Adapter"),
    "esrgan": ({"model.1.sub.0.RDB1.conv1.0.weight": (4,)}, "an upscaler"),
    "real esrgan": ({"conv_first.weight": (4,), "body.0.rdb1.conv1.weight": (4,)}, "an upscaler"),
    "motion": (
        {"down_blocks.0.motion_modules.0.temporal_transformer.norm.bias": (4,)},
        "an AnimateDiff motion module",
    ),
    "embedding": ({"emb_params": (4, 768)}, "a textual inversion embedding"),
    "lora": ({"lora_unet_conv_in.lora_down.weight": (4, 4)}, r"a LoRA.* Give it with --lora"),
    "sdxl lora": ({"lora_te1_text_model_x.lora_up.weight": (4, 4)}, r"a LoRA"),
    "vae": ({"decoder.up.0.block.0.norm1.weight": (4,)}, r"a VAE in LDM.*Give it with --vae"),
    "vae in diffusers": ({"decoder.up_blocks.0.resnets.0.norm1.bias": (4,)}, "a VAE in diffusers"),
    "unet in diffusers": ({"down_blocks.0.resnets.0.norm1.weight": (4,)}, "a bare UNet"),
    "unet": ({"input_blocks.0.0.weight": (8, 4, 3, 3)}, "a bare UNet"),
    "text encoder": ({"text_model.final_layer_norm.bias": (4,)}, "a bare text encoder"),
    "nothing known": ({"some.tensor": (4,)}, "of an unknown kind"),
    "nothing at all": ({}, "of an unknown kind"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("form", ["safetensors", "ckpt"])
def test_other_files_are_refused_by_name(tmp_path: Path, name: str, form: str) -> None:
    shapes, what = FILES[name]
    tensors = {key: torch.zeros(shape) for key, shape in shapes.items()}
    path = tmp_path / f"x.{form}"
    if form == "ckpt":
        torch.save({"state_dict": tensors}, path)
    else:
        save_file(tensors, path)
    with pytest.raises(InputError, match=f"is {what}") as raised:
        read_base(path, "x")
    assert "\n" not in str(raised.value)
    assert recognise(open_weight_file(path)).what in str(raised.value)


def test_what_its_author_says_counts(tmp_path: Path) -> None:
    tensors = {key: torch.zeros(shape) for key, shape in SD1.items()}
    save_file(tensors, tmp_path / "x", {"modelspec.prediction_type": "v"})
    with pytest.raises(InputError, match="is a v-prediction checkpoint"):
        read_base(tmp_path / "x", "x")
    save_file(tensors, tmp_path / "x", {"modelspec.prediction_type": "epsilon"})
    with pytest.raises(InputError, match="has no text encoder and no VAE"):
        read_base(tmp_path / "x", "x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"GGUF\x03\0\0\0\x10\0\0\0", "GGUF, whose weights are quantised"),
        (b"<!DOCTYPE html><html><body>Log in</body></html>", "an HTML page"),
        (b"7z\xbc\xaf\x27\x1c\0\x04\0\0\0\0", "a 7z archive"),
        (b"Rar!\x1a\x07\x01\0\0\0\0\0", "a RAR archive"),
        (b"", "is empty"),
    ],
)
def test_other_formats_are_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_base(tmp_path / "x.safetensors", "x")


def test_a_truncated_checkpoint(tmp_path: Path) -> None:
    save_file({key: torch.zeros(shape) for key, shape in SD1.items()}, tmp_path / "x")
    content = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"x is damaged: it is truncated, with \d+ of \d+ bytes"):
        read_base(tmp_path / "x", "x")
