"""Single files in the original layout, against diffusers' own reading of the same files."""

import json
import struct
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from convert.base import read_base
from convert.checkpoint import CONFIGURATION
from convert.completeness import check_complete
from convert.fuse import load_tensor, run_fuse
from convert.fuse_plan import FusePlan, plan_fuse
from convert.fuse_record import read_record
from convert.known_shapes import SHAPES, known_shapes
from convert.model import WEIGHT_FILES, BaseModel
from convert.recipe import Recipe, load_recipe
from engines.errors import InputError
from tests.convert.ldm_files import (
    POSITION_IDS,
    TEXT_PREFIX,
    UNET_PREFIX,
    VAE_PREFIX,
    ema_copies,
    make_checkpoint,
    noise_schedule,
    original_names,
)
from tests.convert.make_shapes import shapes_of_networks
from tests.convert.synthetic import Tensors, copy_base, edit_json
from tests.convert.tiny_model import write_tiny_model

Save = Callable[[Tensors, Path], object]
CONV_IN = f"{UNET_PREFIX}input_blocks.0.0.weight"


def _save_wrapped(tensors: Tensors, path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": tensors, "optimizer_states": [tensors[CONV_IN]]}, path)


@pytest.fixture(scope="module")
def tensors(demo_base: Path) -> Tensors:
    """The demo as a checkpoint has it."""
    return make_checkpoint(demo_base)


@pytest.fixture(scope="module")
def checkpoint(tensors: Tensors, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints") / "demo.safetensors"
    save_file(tensors, path)
    return path


def _write(path: Path, tensors: Tensors) -> Path:
    save_file(tensors, path)
    return path


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
    path = _write(tmp_path / "x.safetensors", {**tensors, "merge_recipe": torch.zeros(2)})
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
    path = _write(tmp_path / "x.safetensors", old)
    model = read_base(path, "demo", configuration=demo_base)
    check_complete(model)
    _assert_holds(model, tensors, demo_base)


def _plan_from(
    recipe: Recipe, configuration: Path, monkeypatch: pytest.MonkeyPatch, *weights: float
) -> FusePlan:
    monkeypatch.setattr(
        "convert.fuse_plan.read_base", partial(read_base, configuration=configuration)
    )
    return plan_fuse(recipe, weights or None)


def test_a_fuse_is_that_of_the_diffusers_directory(
    checkpoint: Path,
    demo_base: Path,
    fused_demo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = replace(load_recipe("demo"), base=str(checkpoint))
    plan = _plan_from(recipe, demo_base, monkeypatch)
    run_fuse(plan, tmp_path / "out", force=False, progress=False)
    for file in WEIGHT_FILES.values():
        assert (tmp_path / "out" / file).read_bytes() == (fused_demo / file).read_bytes()
    base = read_record(tmp_path / "out" / "fuse.json").base
    assert (base.name, base.layout, base.input_channels) == ("demo.safetensors", "ldm", 4)
    assert base.dtypes == dict.fromkeys(WEIGHT_FILES, ("F16",))
    assert base.ignored == {"position_ids": 1}
    assert "checkpoint" in base.files
    assert not set(WEIGHT_FILES.values()) & base.files.keys()
    moved = tmp_path / "renamed.ckpt"
    moved.write_bytes(checkpoint.read_bytes())
    renamed = _plan_from(replace(recipe, base=str(moved)), demo_base, monkeypatch)
    assert renamed.identity == plan.identity


def test_diffusers_opens_the_fused_model(
    checkpoint: Path, demo_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it opens the checkpoint itself, when the LoRAs have no weight."""
    from diffusers import StableDiffusionPipeline

    recipe = replace(load_recipe("demo"), base=str(checkpoint))
    plan = _plan_from(recipe, demo_base, monkeypatch, 0.0, 0.0)
    run_fuse(plan, tmp_path / "out", force=False, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # diffusers and transformers warn of their own deprecations
        ours = StableDiffusionPipeline.from_pretrained(tmp_path / "out", dtype=torch.float16)
        theirs = StableDiffusionPipeline.from_single_file(
            checkpoint, config=str(demo_base), local_files_only=True, dtype=torch.float16
        )
    for part in WEIGHT_FILES:
        state, reference = (getattr(p, part).state_dict() for p in (ours, theirs))
        assert state.keys() == reference.keys()
        assert all(torch.equal(state[name], reference[name]) for name in state)
    prompt = "a photo of a cat"
    assert ours.tokenizer(prompt).input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]


def test_an_inpainting_checkpoint(
    demo_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its UNet takes 9 channels, whatever the configuration says."""
    configuration = write_tiny_model(demo_base, tmp_path / "four")
    model = write_tiny_model(demo_base, tmp_path / "nine", in_channels=9)
    path = _write(tmp_path / "inpainting.safetensors", make_checkpoint(model))
    base = read_base(path, "inpainting", configuration=configuration)
    check_complete(base)
    unet = base.components["unet"]
    weights = load_file(model / WEIGHT_FILES["unet"])
    assert all(torch.equal(load_tensor(unet.tensors[name]), weights[name]) for name in weights)
    assert unet.config["in_channels"] == 9
    index = json.loads(base.documents["model_index.json"])
    assert index["_class_name"] == "StableDiffusionInpaintPipeline"
    plan = _plan_from(Recipe("x", str(path), ()), configuration, monkeypatch)
    assert plan.record.base.input_channels == 9


def _with_prefix(tensors: Tensors, prefix: str, instead: str = "") -> Tensors:
    return {
        instead + name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


@pytest.fixture
def other_vae(demo_base: Path, tmp_path: Path) -> Path:
    """A diffusers directory of a VAE whose every value differs from the demo's."""
    directory = copy_base(demo_base / "vae", tmp_path / "other")
    path = directory / "diffusion_pytorch_model.safetensors"
    weights = {name: tensor + 1 for name, tensor in load_file(path).items()}
    path.unlink()
    save_file(weights, path)
    return directory


@pytest.mark.parametrize("form", ["directory", "file", "bare", "wrapped", "checkpoint"])
@pytest.mark.parametrize("base_form", ["directory", "checkpoint"])
def test_a_replaced_vae(
    checkpoint: Path,
    tensors: Tensors,
    demo_base: Path,
    other_vae: Path,
    tmp_path: Path,
    form: str,
    base_form: str,
) -> None:
    weights = load_file(other_vae / "diffusion_pytorch_model.safetensors")
    original = {n: t + 1 for n, t in tensors.items() if n.startswith(VAE_PREFIX)}
    if form == "directory":
        vae = other_vae
    elif form == "file":
        vae = other_vae / "diffusion_pytorch_model.safetensors"
    elif form == "bare":
        vae = tmp_path / "vae.pt"
        bare = _with_prefix(original, VAE_PREFIX)
        bare.update({"loss.logvar": torch.zeros(()), "model_ema.decay": torch.zeros(())})
        torch.save({"state_dict": bare}, vae)
    elif form == "wrapped":
        vae = _write(tmp_path / "vae.safetensors", original)
    else:
        vae = _write(tmp_path / "whole.safetensors", {**tensors, **original})
    base = read_base(
        checkpoint if base_form == "checkpoint" else demo_base,
        "demo",
        vae=vae,
        configuration=demo_base,
    )
    check_complete(base)
    found = base.components["vae"].tensors
    assert found.keys() == weights.keys()
    assert all(torch.equal(load_tensor(found[name]), weights[name]) for name in weights)
    files = base.weight_files()
    assert files["vae/diffusion_pytorch_model.safetensors"] == (
        vae / "diffusion_pytorch_model.safetensors" if form == "directory" else vae
    )
    assert ("checkpoint" in files) == (base_form == "checkpoint")


def test_a_checkpoint_without_a_vae_takes_another(
    tensors: Tensors, checkpoint: Path, demo_base: Path, tmp_path: Path
) -> None:
    part = {n: t for n, t in tensors.items() if not n.startswith(VAE_PREFIX)}
    path = _write(tmp_path / "x.safetensors", part)
    with pytest.raises(InputError, match=r"incomplete: it has no VAE\. Give one with --vae"):
        read_base(path, "demo", configuration=demo_base)
    check_complete(read_base(path, "demo", vae=checkpoint, configuration=demo_base))
    only = _write(tmp_path / "unet.safetensors", _with_prefix(tensors, UNET_PREFIX, UNET_PREFIX))
    with pytest.raises(InputError, match="it has no text encoder and no VAE"):
        read_base(only, "demo", configuration=demo_base)
    with pytest.raises(InputError, match=r"checkpoint without a VAE"):
        read_base(demo_base, "demo", vae=only, configuration=demo_base)


def test_what_is_no_vae_is_named(
    checkpoint: Path, demo_base: Path, demo_loras: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"is a LoRA, not a VAE"):
        read_base(checkpoint, "demo", vae=demo_loras[0], configuration=demo_base)
    with pytest.raises(InputError, match=r"There is no VAE at .*gone"):
        read_base(checkpoint, "demo", vae=tmp_path / "gone", configuration=demo_base)


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


def test_a_missing_or_foreign_tensor_is_named(
    tensors: Tensors, demo_base: Path, tmp_path: Path
) -> None:
    less = {name: t for name, t in tensors.items() if name != f"{UNET_PREFIX}out.2.bias"}
    path = _write(tmp_path / "less.safetensors", less)
    with pytest.raises(InputError, match=r"no whole unet: conv_out\.bias is missing"):
        check_complete(read_base(path, "demo", configuration=demo_base))
    more = {**tensors, f"{UNET_PREFIX}input_blocks.4.2.weight": torch.zeros(1)}
    path = _write(tmp_path / "more.safetensors", more)
    with pytest.raises(InputError, match=r"no place in its UNet: .*input_blocks\.4\.2\.weight"):
        read_base(path, "demo", configuration=demo_base)
    for dtype, stored in ((torch.uint8, "U8"), (torch.float8_e4m3fn, "F8_E4M3")):
        small = {**tensors, CONV_IN: torch.zeros(64, 4, 3, 3).to(dtype)}
        path = _write(tmp_path / "quantised.safetensors", small)
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
