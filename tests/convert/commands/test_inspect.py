"""`convert inspect` says what a file or directory is."""

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from convert.__main__ import main
from tests.convert.ldm_files import ema_copies, make_checkpoint


def _inspect(path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    assert main(["inspect", str(path), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_lora(demo_loras: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    value = _inspect(demo_loras[0], capsys)
    digest = sha256(demo_loras[0].read_bytes()).hexdigest()
    assert (value["kind"], value["modules"]) == ("lora", 210)
    assert (value["sha256"], value["autov2"]) == (digest, digest[:10].upper())
    with safe_open(demo_loras[0], "pt") as file:
        key = next(key for key in file.keys() if key.startswith("lora_unet_"))  # noqa: SIM118
        module = key.partition(".")[0]
        rank = file.get_slice(f"{module}.lora_down.weight").get_shape()[0]
        alpha = file.get_tensor(f"{module}.alpha").item()
    row = {"component": "unet", "kind": "LoRA", "rank": rank, "alpha": alpha, "modules": 192}
    assert row in value["ranks"]
    assert (value["family"], value["layout"]) == ("Stable Diffusion 1.x", ["kohya"])
    assert value["dtypes"] == ["F16"]
    assert value["trained_tags"]["cracked skin"] > 0


def test_a_base(demo_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = _inspect(demo_base, capsys)
    assert (value["kind"], value["family"]) == ("base", "Stable Diffusion 1.x")
    assert value["components"]["unet"]["tensors"] == 684
    assert value["components"]["vae"]["dtypes"] == ["F16"]


def test_a_fused_model(fused_demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = _inspect(fused_demo, capsys)
    assert value["kind"] == "fused"
    assert value["record"] == json.loads((fused_demo / "fuse.json").read_text())


def test_other_weights(demo_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = _inspect(demo_base / "vae" / "diffusion_pytorch_model.safetensors", capsys)
    assert (value["kind"], value["tensors"], value["dtypes"]) == ("tensors", 188, ["F16"])


def test_a_checkpoint(demo_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its layout, what is in it, and what is left out, whichever of the two forms it has."""
    tensors = make_checkpoint(demo_base)
    torch.save({"state_dict": {**tensors, **ema_copies(tensors)}}, tmp_path / "x.ckpt")
    value = _inspect(tmp_path / "x.ckpt", capsys)
    assert value["sha256"] == sha256((tmp_path / "x.ckpt").read_bytes()).hexdigest()
    assert (value["kind"], value["what"]) == ("base", "a Stable Diffusion 1.x checkpoint")
    assert (value["layout"], value["family"]) == ("ldm", "Stable Diffusion 1.x")
    assert value["components"]["unet"] == {"tensors": 684, "dtypes": ["F16"]}
    assert value["ignored"] == {"ema": 686, "position_ids": 1}
    part = {name: t for name, t in tensors.items() if name.startswith("model.diffusion_model.")}
    part["model.diffusion_model.input_blocks.0.0.weight"] = torch.zeros(64, 9, 3, 3)
    save_file(part, tmp_path / "x.safetensors")
    assert main(["inspect", str(tmp_path / "x.safetensors")]) == 0
    text = capsys.readouterr().out
    assert "a Stable Diffusion 1.x inpainting checkpoint, in LDM layout" in text
    assert "unet: 684 tensors, F16, F32" in text
    assert "vae: 0 tensors, missing" in text


def test_what_cannot_be_converted_is_named_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({"conditioner.embedders.1.x": torch.zeros(2)}, tmp_path / "x.safetensors")
    value = _inspect(tmp_path / "x.safetensors", capsys)
    assert (value["kind"], value["what"]) == ("tensors", "an SDXL checkpoint")


def test_a_lora_for_another_family(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.safetensors"
    metadata = {"ss_base_model_version": "sdxl_base_v1-0"}
    save_file({"lora_te2_text_model_x.lora_up.weight": torch.zeros(2, 2)}, file, metadata)
    value = _inspect(file, capsys)
    assert (value["kind"], value["family"], value["dtypes"]) == ("lora", "SDXL", ["F32"])
    assert value["metadata"] == metadata
    assert value["autov2"] == sha256(file.read_bytes()).hexdigest()[:10].upper()
    assert main(["inspect", str(file)]) == 0
    assert "a LoRA for SDXL, F32; it cannot be fused" in capsys.readouterr().out


def test_a_text_for_people(
    demo_loras: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(demo_loras[1])]) == 0
    text = capsys.readouterr().out
    assert "a LoRA for Stable Diffusion 1.x with 210 modules" in text
    assert "unet: 192 modules, LoRA of rank 8, alpha 8" in text
    assert "trained tag: dark" in text


def test_nothing_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path / "gone")]) == 1
    assert "There is nothing at" in capsys.readouterr().err


def test_a_bundle_says_what_it_was_made_from(
    demo_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(demo_bundle), "-q"]) == 0
    text = capsys.readouterr().out
    assert "demo: base and 2 LoRAs" in text
    assert "cracked_skin_demo [" in text
    assert "at 0.6, LoRA of rank 16, alpha 16: unet 192 of" in text
    assert "up to date" in text


def test_other_tools_make_a_bundle_stale(
    demo_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convert.staleness.tool_versions", lambda names: dict.fromkeys(names, "9"))
    assert main(["inspect", str(demo_bundle), "--json", "-q"]) == 0
    stale = json.loads(capsys.readouterr().out)["stale"]
    assert any(reason.startswith("it was made with torch 2") for reason in stale)
    assert not any("fracture-sd" in reason for reason in stale)


def test_a_changed_file_and_a_new_fuse_make_outputs_stale(
    fused_demo: Path,
    demo_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle, fused = tmp_path / "demo", tmp_path / "demo.fused"
    shutil.copytree(demo_bundle, bundle)
    shutil.copytree(fused_demo, fused)
    record = json.loads((fused / "fuse.json").read_text())
    (fused / "fuse.json").write_text(json.dumps({**record, "identity": "0" * 64}))
    vocabulary = fused / "tokenizer" / "vocab.json"
    vocabulary.write_bytes(vocabulary.read_bytes() + b" ")

    assert main(["inspect", str(fused), "-q"]) == 0
    assert "stale: tokenizer/vocab.json has another content" in capsys.readouterr().out
    assert main(["inspect", str(bundle), "-q"]) == 0
    assert "demo.fused has been fused anew since" in capsys.readouterr().out
