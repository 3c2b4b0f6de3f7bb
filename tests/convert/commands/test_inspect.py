"""`convert inspect` says what a file or directory is."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from convert.__main__ import main


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
