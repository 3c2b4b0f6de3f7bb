"""`convert inspect` on TensorRT plans: what they were built from, and whether they are stale."""

import json
from pathlib import Path
from typing import Any

import pytest

from convert.__main__ import main
from engines import layout
from engines.bundle import Bundle
from tests.convert.plans.bundles import write_bundle
from tests.engines.plan_files import VERSION, add_plan_set

INSTALLED = {"tensorrt-rtx": VERSION}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle with a set of plans."""
    bundle = write_bundle(tmp_path / "bundle")
    add_plan_set(bundle, "sm86", "sm89")
    return bundle


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The version that the plans were built with is the one that is installed."""
    monkeypatch.setattr("convert.commands.inspect_plans.tool_versions", lambda _: INSTALLED)


def _inspect(path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    assert main(["inspect", str(path), "--json", "-q"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_set(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    directory = bundle.path / "engines" / "tensorrt-rtx-sm86-sm89"
    value = _inspect(directory, capsys)
    assert (value["kind"], value["stale"]) == ("plans", [])
    assert value["plans"] == json.loads((directory / layout.PLANS_FILE).read_text())
    assert main(["inspect", str(directory)]) == 0
    text = capsys.readouterr().out
    assert f"plans of tensorrt-rtx {VERSION} for sm86, sm89 on linux-x86_64" in text
    assert "convert build BUNDLE --backend tensorrt-rtx --target sm86,sm89" in text
    assert "input_ids 1x4..8x4" in text
    assert "up to date" in text


def test_one_plan(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    file = bundle.path / "engines" / "tensorrt-rtx-sm86-sm89" / "unet.plan"
    value = _inspect(file, capsys)
    assert (value["kind"], value["component"], value["stale"]) == ("plan", "unet", [])
    assert value["plan"]["file"] == "unet.plan"
    assert main(["inspect", str(file)]) == 0
    assert "unet.plan: the unet of plans of tensorrt-rtx" in capsys.readouterr().out


def test_the_bundle_lists_them(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert _inspect(bundle.path, capsys)["plans"] == {"tensorrt-rtx-sm86-sm89": ""}
    (bundle.path / "engines" / "tensorrt-rtx-sm86-sm89" / "unet.plan").unlink()
    assert _inspect(bundle.path, capsys)["plans"] == {
        "tensorrt-rtx-sm86-sm89": "unet.plan is missing"
    }


def test_what_makes_them_stale(
    bundle: Bundle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = bundle.path / "engines" / "tensorrt-rtx-sm86-sm89"
    newer = {"tensorrt-rtx": "1.3.0.0"}
    monkeypatch.setattr("convert.commands.inspect_plans.tool_versions", lambda _: newer)
    (directory / "unet.plan").write_bytes(b"plan of uneT")
    manifest = json.loads((bundle.path / layout.BUNDLE_FILE).read_text())
    manifest["files"]["vae_decoder/model.onnx"]["sha256"] = "0" * 64
    (bundle.path / layout.BUNDLE_FILE).write_text(json.dumps(manifest))
    for path in (directory, directory / "text_encoder.plan"):
        assert _inspect(path, capsys)["stale"] == [
            "unet.plan has another content than was written",
            f"it was built with tensorrt-rtx {VERSION}, here is 1.3.0.0",
            "vae_decoder.plan was built from another graph than the bundle's vae_decoder",
        ]


def test_it_need_not_be_installed(
    bundle: Bundle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convert.commands.inspect_plans.tool_versions", lambda _: {})
    assert _inspect(bundle.path / "engines" / "tensorrt-rtx-sm86-sm89", capsys)["stale"] == []


def test_a_set_outside_a_bundle(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = (bundle.path / "engines" / "tensorrt-rtx-sm86-sm89").rename(tmp_path / "plans")
    (reason,) = _inspect(moved, capsys)["stale"]
    assert "it lies in no bundle" in reason


def test_a_plan_of_unknown_origin(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lone = tmp_path / "lone.plan"
    lone.write_bytes(b"plan")
    assert main(["inspect", str(lone)]) == 1
    assert "there is no plans.json beside it" in capsys.readouterr().err
    stray = bundle.path / "engines" / "tensorrt-rtx-sm86-sm89" / "stray.plan"
    stray.write_bytes(b"plan")
    assert main(["inspect", str(stray)]) == 1
    assert "knows nothing of stray.plan" in capsys.readouterr().err
