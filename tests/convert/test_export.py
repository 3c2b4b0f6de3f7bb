"""Bundles as directories: what is in them, what makes two the same, and what a failure leaves."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from convert.export_plan import plan_export
from convert.fuse_record import read_record
from engines import layout
from engines.bundle import open_bundle, verify_hashes
from engines.errors import InputError, OutputError
from engines.publish import publish_directory
from tests.convert.synthetic import copy_base, edit_json, replace_file
from tests.convert.tiny_model import write_tiny_model
from tests.waiting import wait_until

TOKENIZER = ".*.partial-*/tokenizer/*"
"""What an export writes first; to trace the graphs, which follow, takes it seconds."""


def test_bundle_opens_and_every_file_is_listed(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    verify_hashes(bundle)
    there = {
        path.relative_to(tiny_bundle).as_posix()
        for path in tiny_bundle.rglob("*")
        if path.is_file()
    }
    assert there == {*bundle.manifest.files, layout.BUNDLE_FILE}
    assert bundle.manifest.components.keys() == layout.COMPONENTS.keys()


def test_bundle_has_what_optimum_looks_for(tiny_bundle: Path) -> None:
    for component in layout.COMPONENTS:
        for name in ("config.json", "model.onnx", "model.onnx_data", "weights.json"):
            assert (tiny_bundle / component / name).is_file()
    for name in ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"):
        assert (tiny_bundle / "tokenizer" / name).is_file()
    assert (tiny_bundle / layout.SCHEDULER_FILE).is_file()
    index = json.loads((tiny_bundle / layout.MODEL_INDEX_FILE).read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert index["safety_checker"] == index["feature_extractor"] == [None, None]
    vae = json.loads((tiny_bundle / "vae_decoder" / "config.json").read_text())
    assert vae["scaling_factor"] == 0.18215


def test_manifest_of_a_plain_model(tiny_bundle: Path) -> None:
    manifest = open_bundle(tiny_bundle).manifest
    assert manifest.name == "tiny"
    latents = asdict(manifest.latents)
    assert [len(row) for row in latents.pop("preview")] == [3] * 5
    assert latents == {"channels": 4, "downscale": 2, "scaling_factor": 0.18215}
    assert (manifest.defaults.width, manifest.defaults.height) == (16, 16)
    assert (manifest.provenance, manifest.parity, manifest.presets) == ({}, {}, {})
    assert manifest.tools.keys() >= {"fracture-sd", "torch", "onnx", "diffusers"}


def test_manifest_of_a_fused_model(demo_bundle: Path, fused_demo: Path) -> None:
    manifest, record = open_bundle(demo_bundle).manifest, read_record(fused_demo / "fuse.json")
    assert manifest.name == "demo"
    assert manifest.provenance["identity"] == record.identity
    assert (manifest.defaults, manifest.presets) == (record.defaults, record.presets)
    assert manifest.trained_tags == record.trained_tags()
    assert manifest.trained_tags.keys() == {"cracked_skin_demo", "offset_demo"}
    assert manifest.latents.downscale == 8


def test_plan_is_fulfilled_by_its_own_bundle_alone(
    tiny_model: Path, tiny_bundle: Path, demo_bundle: Path
) -> None:
    plan = plan_export(tiny_model, dtype="fp32")
    assert plan.is_fulfilled_by(tiny_bundle)
    assert not plan_export(tiny_model, dtype="fp16").is_fulfilled_by(tiny_bundle)
    assert not plan.is_fulfilled_by(demo_bundle)
    assert not plan.is_fulfilled_by(tiny_model)


def test_truncated_bundle_fulfils_nothing(
    tiny_model: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(tiny_bundle, tmp_path / "copy")
    data = copy / "unet" / "model.onnx_data"
    os.truncate(data, data.stat().st_size - 1)
    assert not plan_export(tiny_model, dtype="fp32").is_fulfilled_by(copy)


def test_identity_is_content_and_not_place(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_export(tiny_model, dtype="fp32")
    elsewhere = shutil.copytree(tiny_model, tmp_path / "elsewhere")
    assert plan_export(elsewhere, dtype="fp32").identity == plan.identity
    weights = elsewhere / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert plan_export(elsewhere, dtype="fp32").identity != plan.identity
    monkeypatch.setattr("convert.export_plan.tool_versions", lambda _: {"torch": "0.1"})
    assert plan_export(tiny_model, dtype="fp32").identity != plan.identity


@pytest.mark.parametrize(
    "name", ["tokenizer/merges.txt", "scheduler/scheduler_config.json", "unet/config.json"]
)
def test_identity_depends_on_every_document(tiny_model: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    if name.endswith(".json"):
        edit_json(copy / name, lambda content: content.update(note="other"))
    else:
        (copy / name).write_text((copy / name).read_text() + "x y\n")
    before, after = (plan_export(path, dtype="fp32").identity for path in (tiny_model, copy))
    assert before != after


def test_tokenizer_is_completed_from_either_form(demo_base: Path, tmp_path: Path) -> None:
    """Stable Diffusion 1.5 has no tokenizer.json; transformers 5 saves nothing else."""
    from convert.documents import bundle_documents

    whole = bundle_documents(plan_export(demo_base, dtype="fp16").model)
    slow, fast, silent = (copy_base(demo_base, tmp_path / name) for name in ("a", "b", "c"))
    (slow / "tokenizer" / "tokenizer.json").unlink()
    (fast / "tokenizer" / "vocab.json").unlink()
    (fast / "tokenizer" / "merges.txt").unlink()
    edit_json(silent / "tokenizer" / "tokenizer.json", lambda content: content.update(padding=None))

    from_slow, from_fast, from_silent = (
        bundle_documents(plan_export(model, dtype="fp16").model) for model in (slow, fast, silent)
    )

    text = "A portrait, glowing CRACKED skin!! (red:1.2) ünïcode"
    expected = Tokenizer.from_str(whole[layout.TOKENIZER_FILE].decode()).encode(text)
    assert len(expected.ids) == 77
    for documents in (from_slow, from_fast, from_silent):
        tokenizer = Tokenizer.from_str(documents[layout.TOKENIZER_FILE].decode())
        assert tokenizer.encode(text).ids == expected.ids
        assert tokenizer.padding is not None
    vocabularies = (json.loads(d["tokenizer/vocab.json"]) for d in (whole, from_fast))
    assert next(vocabularies) == next(vocabularies)
    merges = [d["tokenizer/merges.txt"].decode().split("\n") for d in (whole, from_fast)]
    assert merges[0] == merges[1]


def test_unet_of_an_inpainting_model_takes_9_channels(demo_base: Path, tmp_path: Path) -> None:
    import torch

    from convert.trace import trace_graph

    model = write_tiny_model(demo_base, tmp_path / "inpaint", in_channels=9)
    component = plan_export(model, dtype="fp32").model.components["unet"]
    sample = trace_graph(layout.UNET, component, torch.float32).model.graph.inputs[0]
    assert sample.shape is not None
    assert [str(axis) for axis in sample.shape] == ["batch", "9", "height", "width"]


def test_interrupted_export_leaves_nothing(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import convert.export
    import convert.trace

    calls: list[Any] = []

    def trace_one(*arguments: Any) -> Any:
        if calls:
            raise KeyboardInterrupt
        calls.append(arguments)
        return real(*arguments)

    real = convert.trace.trace_graph
    monkeypatch.setattr(convert.export, "trace_graph", trace_one)
    plan = plan_export(tiny_model, dtype="fp32")
    with pytest.raises(KeyboardInterrupt):
        convert.export.run_export(plan, tmp_path / "bundle", force=False, progress=False)
    assert len(calls) == 1
    assert list(tmp_path.iterdir()) == []


def test_killed_export_leaves_no_bundle_and_its_debris_is_swept(
    tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    command = [sys.executable, "-m", "convert", "export", str(tiny_model), "--out", str(out), "-q"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(
                lambda: process.poll() is not None or list(tmp_path.glob(TOKENIZER)), every=0.02
            )
        finally:
            process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    assert len(list(tmp_path.glob(".*.partial-*"))) == 1
    with publish_directory(out, force=False, marker=layout.BUNDLE_FILE) as partial:
        (partial / layout.BUNDLE_FILE).write_text("{}")
    assert list(tmp_path.iterdir()) == [out]


def test_existing_output_is_refused_before_any_work(tiny_model: Path, tmp_path: Path) -> None:
    from convert.export import run_export

    plan = plan_export(tiny_model, dtype="fp32")
    (tmp_path / layout.BUNDLE_FILE).write_text("{}")
    with pytest.raises(OutputError, match="Add --force"):
        run_export(plan, tmp_path, force=False, progress=False)


def test_fused_model_that_was_changed_is_refused(fused_demo: Path, tmp_path: Path) -> None:
    copy = copy_base(fused_demo, tmp_path / "fused")
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    replace_file(weights, bytes(content))
    edit_json(copy / "vae" / "config.json", lambda config: config.update(scaling_factor=1.0))
    with pytest.raises(InputError, match="is damaged") as error:
        plan_export(copy, dtype="fp16")
    assert "unet/diffusion_pytorch_model.safetensors has another content" in str(error.value)
    assert "vae/config.json has another content" in str(error.value)


def test_missing_tensor_is_refused_before_any_work(tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from convert.export import run_export

    copy = shutil.copytree(tiny_model, tmp_path / "model")
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    del tensors["conv_in.weight"]
    save_file(tensors, weights)
    with pytest.raises(InputError, match=r"conv_in\.weight is missing"):
        run_export(plan_export(copy, dtype="fp32"), tmp_path / "out", force=False, progress=False)
    assert not (tmp_path / "out").exists()


def test_value_too_large_for_fp16_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from convert.weights import load_values

    copy = shutil.copytree(tiny_model, tmp_path / "model")
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["conv_in.bias"][0] = 1e6
    save_file(tensors, weights)
    component = plan_export(copy, dtype="fp16").model.components["unet"]
    assert load_values(component, "conv_in.bias", torch.float32)[0] == 1e6
    with pytest.raises(InputError, match="--dtype fp32"):
        load_values(component, "conv_in.bias", torch.float16)
