"""`convert export`, `verify` and `all` as a user meets them."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from convert.__main__ import main
from engines import layout
from engines.manifest import read_manifest
from tests.convert.synthetic import copy_base
from tests.convert.tiny_model import write_tiny_lora, write_tiny_model


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a failing command says."""
    assert main([*arguments, "-q"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    return lines[0]


def result(arguments: list[str], capsys: pytest.CaptureFixture[str], status: int = 0) -> Any:
    """The value that a command prints with --json, and nothing else on stdout."""
    assert main([*arguments, "--json"]) == status
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("command", [["export", "model"], ["all"]])
@pytest.mark.parametrize(
    ("option", "value", "fault"),
    [
        ("--dtype", "int4", "The dtype 'int4' in 'int4' is not one of fp16, fp32"),
        ("--dtype", "fp16,unet=int8", "The dtype 'int8' in 'fp16,unet=int8' is not one of"),
        ("--dtype", "fp16,vae=fp32", "names no component with 'vae=fp32'"),
        ("--dtype", "unet=fp32", "The dtype 'unet=fp32' in 'unet=fp32' is not one of"),
        ("--opset", "17", "The opset 17 is not in 18 to 23"),
        ("--opset", "new", "'new' is no number"),
        ("--static", "512", "The static shape '512' is neither"),
        ("--static", "0x512", "The static shape '0x512' is neither"),
    ],
)
def test_wrong_export_option_is_bad_usage(
    command: list[str], option: str, value: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main([*command, "--out", "bundle", option, value])
    assert exit_status.value.code == 2
    assert fault in capsys.readouterr().err


def test_missing_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bundle"
    line = fails(["export", str(tmp_path / "nothing"), "--out", str(out)], capsys)
    assert str(tmp_path / "nothing") in line
    assert not out.exists()


def test_static_side_that_the_vae_cannot_make(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", str(tiny_model), "--out", str(tmp_path / "bundle")]
    line = fails([*arguments, "--static", "16x17"], capsys)
    assert line.endswith("The static height 17 is not a multiple of 2.")


def test_truncated_weights(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(tiny_model, tmp_path / "model")
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    os.truncate(weights, weights.stat().st_size - 1)
    line = fails(["export", str(copy), "--out", str(tmp_path / "bundle")], capsys)
    assert str(weights) in line
    assert "truncated" in line
    assert list(tmp_path.iterdir()) == [copy]


def test_damaged_fuse_record(
    fused_demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = copy_base(fused_demo, tmp_path / "fused")
    (copy / layout.FUSE_FILE).unlink()
    (copy / layout.FUSE_FILE).write_text('{"revision": 1}')
    line = fails(["export", str(copy), "--out", str(tmp_path / "bundle")], capsys)
    assert "identity is missing" in line


def test_existing_bundle_needs_force(
    tiny_model: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (tiny_bundle / layout.BUNDLE_FILE).read_bytes()
    line = fails(["export", str(tiny_model), "--out", str(tiny_bundle)], capsys)
    assert line.endswith(f"{tiny_bundle} exists already. Add --force to replace it.")
    assert (tiny_bundle / layout.BUNDLE_FILE).read_bytes() == before


def test_export_into_a_foreign_directory(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    line = fails(["export", str(tiny_model), "--out", str(tmp_path), "--force"], capsys)
    assert "left untouched" in line


def test_verify_needs_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "There is no bundle" in fails(["verify", str(tmp_path / "nothing")], capsys)


def test_verify_needs_the_fused_model(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(["verify", str(tiny_bundle)], capsys)
    assert f"There is no {tiny_bundle}.fused" in line
    assert "--against" in line


def test_verify_passes_and_fails_by_its_exit_status(
    tiny_bundle: Path,
    tiny_model: Path,
    demo_base: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    shutil.copytree(tiny_model, tmp_path / "bundle.fused")
    passed = result(["verify", str(bundle), "--pictures", "1"], capsys)
    assert passed["passed"] is True
    assert [picture["passed"] for picture in passed["pictures"]] == [True]
    other = write_tiny_model(demo_base, tmp_path / "other", seed=1)
    against = ["verify", str(bundle), "--against", str(other), "--pictures", "0"]
    value = result(against, capsys, status=1)
    assert value["passed"] is False
    assert value["parity"].keys() == layout.COMPONENTS.keys()
    assert main([*against, "-q"]) == 1
    assert "unet.out_sample: FAILED" in capsys.readouterr().out


def test_wrong_pictures_fail_and_are_recorded(
    tiny_bundle: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    negate_weight(bundle / layout.graph_file(layout.UNET), "conv_out.weight")
    arguments = ["verify", str(bundle), "--against", str(tiny_model), "--pictures", "2"]
    value = result(arguments, capsys, status=1)
    assert value["passed"] is False
    written = read_manifest(bundle / layout.BUNDLE_FILE)
    assert [picture.passed for picture in written.pictures] == [False, False]
    assert [picture["psnr"] for picture in value["pictures"]] == [
        picture.psnr for picture in written.pictures
    ]
    assert [picture.seed for picture in written.pictures] == [1, 2]
    assert all(picture.psnr < 50 for picture in written.pictures)


def negate_weight(graph: Path, name: str) -> None:
    """Change the sign of one float32 weight of a graph in the file beside it."""
    model = onnx.load(graph, load_external_data=False)
    (weight,) = (value for value in model.graph.initializer if value.name == name)
    place = {entry.key: entry.value for entry in weight.external_data}
    values = np.memmap(
        graph.parent / place["location"],
        np.float32,
        "r+",
        int(place["offset"]),
        (int(place["length"]) // 4,),
    )
    values *= -1
    values.flush()


@pytest.mark.parametrize("count", ["-1", "1001", "two"])
def test_number_of_pictures_that_is_none(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main(["verify", "bundle", "--pictures", count])
    assert exit_status.value.code == 2
    assert f"{count!r} is not a number from 0 to 1000" in capsys.readouterr().err


def test_all_from_a_recipe_file(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_lora(tmp_path / "lora.safetensors")
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        f'name = "tiny"\nbase = "{tiny_model}"\n'
        '[[loras]]\nname = "lora"\nsource = "lora.safetensors"\nweight = 0.6\n'
        '[defaults]\nwidth = 16\nheight = 16\n[export]\ndtype = "fp32"\n'
    )
    out = tmp_path / "bundle"
    arguments = ["all", "--recipe", str(recipe), "--out", str(out)]
    first = result(arguments, capsys)
    assert first["passed"] is True
    assert (out / layout.BUNDLE_FILE).is_file()
    assert (tmp_path / "bundle.fused" / layout.FUSE_FILE).is_file()
    assert all(
        not stage["skipped"] and stage["peak_bytes"] > 0 for stage in first["stages"].values()
    )
    second = result(arguments, capsys)
    assert second["identity"] == first["identity"]
    assert [stage["skipped"] for stage in second["stages"].values()] == [True] * 3


def test_all_with_a_wrong_number_of_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bundle"
    line = fails(["all", "--recipe", "demo", "--out", str(out), "--weights", "0.6"], capsys)
    assert "1 weight" in line
    assert list(tmp_path.iterdir()) == []


def test_all_with_an_unknown_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(["all", "--recipe", "nothing", "--out", str(tmp_path / "bundle")], capsys)
    assert "There is no recipe 'nothing'" in line
