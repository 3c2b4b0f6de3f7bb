"""Single files in the original layout, against diffusers' own reading of the same files."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from convert.base import read_base
from convert.checkpoint import CONFIGURATION
from convert.completeness import check_complete
from convert.fuse import load_tensor
from convert.model import WEIGHT_FILES, BaseModel
from engines.errors import InputError
from tests.convert.ldm_files import (
    POSITION_IDS,
    TEXT_PREFIX,
    UNET_PREFIX,
    ema_copies,
    noise_schedule,
    write_checkpoint,
)
from tests.convert.synthetic import Tensors

Save = Callable[[Tensors, Path], object]
CONV_IN = f"{UNET_PREFIX}input_blocks.0.0.weight"


def _save_wrapped(tensors: Tensors, path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": tensors, "optimizer_states": [tensors[CONV_IN]]}, path)


def _assert_holds(model: BaseModel, tensors: Tensors, demo_base: Path) -> None:
    """Every weight is the tensor that diffusers takes for it, bit by bit."""
    from diffusers.loaders.single_file_utils import (
        convert_ldm_unet_checkpoint,
        convert_ldm_vae_checkpoint,
    )

    configs = {
        part: json.loads((demo_base / part / "config.json").read_text()) for part in WEIGHT_FILES
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # diffusers warns of its own deprecations
        expected = {
            "unet": convert_ldm_unet_checkpoint(dict(tensors), configs["unet"]),
            "vae": convert_ldm_vae_checkpoint(dict(tensors), configs["vae"]),
        }
    expected["text_encoder"] = {
        name.removeprefix("cond_stage_model.transformer."): tensor
        for name, tensor in tensors.items()
        if name.startswith(TEXT_PREFIX) and name != POSITION_IDS
    }
    for part, component in model.components.items():
        assert component.tensors.keys() == expected[part].keys()
        for name, stored in component.tensors.items():
            loaded = load_tensor(stored)
            assert loaded.dtype == expected[part][name].dtype, name
            assert torch.equal(loaded, expected[part][name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("save", [save_file, _save_wrapped, torch.save])
def test_every_tensor_is_as_diffusers_reads_it(
    tensors: Tensors, demo_base: Path, tmp_path: Path, dtype: torch.dtype, save: Save
) -> None:
    cast = {n: t.to(dtype) if t.is_floating_point() else t for n, t in tensors.items()}
    save(cast, tmp_path / "model.ckpt")
    model = read_base(tmp_path / "model.ckpt", "demo", configuration=demo_base)
    check_complete(model)
    _assert_holds(model, cast, demo_base)
    assert model.ignored == {"position_ids": 1}


@pytest.mark.parametrize("save", [save_file, _save_wrapped])
def test_what_the_trainer_adds_is_counted_and_left_out(
    tensors: Tensors, demo_base: Path, tmp_path: Path, save: Save
) -> None:
    more = {**tensors, **ema_copies(tensors), **noise_schedule()}
    more["cond_stage_model.logit_scale"] = torch.tensor(4.6)
    more["first_stage_model.loss.logvar"] = torch.tensor(0.0)
    save(more, tmp_path / "full.ckpt")
    model = read_base(tmp_path / "full.ckpt", "demo", configuration=demo_base)
    _assert_holds(model, tensors, demo_base)
    assert model.ignored == {
        "clip_heads": 1,
        "ema": 686,
        "loss": 1,
        "noise_schedule": 4,
        "position_ids": 1,
    }


def test_strangers_are_reported(
    tensors: Tensors, demo_base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_checkpoint(tmp_path / "x.safetensors", {**tensors, "merge_recipe": torch.zeros(2)})
    model = read_base(path, "demo", configuration=demo_base)
    assert model.ignored == {"other": 1, "position_ids": 1}
    assert "1 tensors are no part of the model and are left out: merge_recipe" in caplog.text


def test_names_of_old_merges(tensors: Tensors, demo_base: Path, tmp_path: Path) -> None:
    """Without position ids, without `text_model.`, and with the VAE's attention as linear."""
    old = {
        name.replace(".text_model.", "."): tensor[:, :, 0, 0].contiguous()
        if ".attn_1." in name and tensor.ndim == 4
        else tensor
        for name, tensor in tensors.items()
        if name != POSITION_IDS
    }
    path = write_checkpoint(tmp_path / "x.safetensors", old)
    model = read_base(path, "demo", configuration=demo_base)
    check_complete(model)
    _assert_holds(model, tensors, demo_base)


def test_a_missing_or_foreign_tensor_is_named(
    tensors: Tensors, demo_base: Path, tmp_path: Path
) -> None:
    less = {name: t for name, t in tensors.items() if name != f"{UNET_PREFIX}out.2.bias"}
    path = write_checkpoint(tmp_path / "less.safetensors", less)
    with pytest.raises(InputError, match=r"no whole unet: conv_out\.bias is missing"):
        check_complete(read_base(path, "demo", configuration=demo_base))
    more = {**tensors, f"{UNET_PREFIX}input_blocks.4.2.weight": torch.zeros(1)}
    path = write_checkpoint(tmp_path / "more.safetensors", more)
    with pytest.raises(InputError, match=r"no place in its UNet: .*input_blocks\.4\.2\.weight"):
        read_base(path, "demo", configuration=demo_base)
    for dtype, stored in ((torch.uint8, "U8"), (torch.float8_e4m3fn, "F8_E4M3")):
        small = {**tensors, CONV_IN: torch.zeros(64, 4, 3, 3).to(dtype)}
        path = write_checkpoint(tmp_path / "quantised.safetensors", small)
        with pytest.raises(InputError, match=rf"input_blocks\.0\.0\.weight is of dtype {stored}"):
            read_base(path, "demo", configuration=demo_base)


def test_a_sidecar_says_v_prediction(checkpoint: Path, demo_base: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.symlink_to(checkpoint)
    (tmp_path / "x.yaml").write_text('model:\n  params:\n    parameterization: "eps"\n')
    read_base(path, "demo", configuration=demo_base)
    (tmp_path / "x.yaml").write_text('model:\n  params:\n    parameterization: "v"\n')
    with pytest.raises(InputError, match=r"v-prediction checkpoint, as x\.yaml beside it says"):
        read_base(path, "demo", configuration=demo_base)


HUB_SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
"""scheduler_config.json as the hub has it for Stable Diffusion 1.5, without diffusers' version."""


def test_a_single_file_has_the_schedule_of_the_hubs_model() -> None:
    """What is not said means something: each of diffusers' classes has its own default."""
    config = json.loads((CONFIGURATION / "scheduler" / "scheduler_config.json").read_text())
    assert config.pop("prediction_type") == "epsilon", "every scheduler's default, said for others"
    assert config == HUB_SCHEDULER
