"""Fusing into single files in the original layout: what comes out is what a directory gives."""

import json
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from convert.base import read_base
from convert.completeness import check_complete
from convert.fuse import load_tensor, run_fuse
from convert.fuse_plan import FusePlan, plan_fuse
from convert.fuse_record import read_record
from convert.model import WEIGHT_FILES
from convert.recipe import Recipe, load_recipe
from tests.convert.ldm_files import (
    make_checkpoint,
    write_checkpoint,
)
from tests.convert.tiny_model import write_tiny_model


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
    path = write_checkpoint(tmp_path / "inpainting.safetensors", make_checkpoint(model))
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
