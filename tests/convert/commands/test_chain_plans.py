"""`convert all --backend`: plans as the last stage. The stages before it stand in."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from convert.__main__ import main
from engines.bundle import open_bundle
from engines.plan_sets import find_plans, open_plans

pytest.importorskip("tensorrt_rtx")

RTX = ("--backend", "tensorrt-rtx", "--target", "sm89")


@pytest.fixture
def out(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `convert all` leaves a bundle, which was there before."""
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    monkeypatch.setattr(
        "convert.stages.run_stages", lambda *_, **__: (open_bundle(bundle).manifest, [])
    )
    return bundle


def _run_all(out: Path, *arguments: str) -> int:
    return main(["all", "--recipe", "demo", "--out", str(out), *arguments, "--json", "-q"])


def test_plans_are_built_once(
    out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stage() -> Any:
        assert _run_all(out, *RTX) == 0
        return json.loads(capsys.readouterr().out)["stages"]["build"]

    monkeypatch.setattr("convert.parity.has_passed", lambda _: True)
    first = stage()
    assert not first["skipped"]
    assert first["peak_bytes"] > 200e6
    assert stage()["skipped"]
    plans = open_plans(open_bundle(out), "tensorrt-rtx", "sm89").content
    assert plans.arguments == RTX
    assert len(plans.components["unet"].profiles) == 2


def test_nothing_is_built_of_a_bundle_that_failed(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convert.parity.has_passed", lambda _: False)
    assert _run_all(out, *RTX) == 1
    assert find_plans(open_bundle(out)) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--backend", "tensorrt-rtx", "--target", "sm90"), "does not build for sm90"),
        (("--target", "sm89"), "--target says nothing without --backend"),
    ],
)
def test_what_cannot_be_built_is_said_before_any_work(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    assert _run_all(tmp_path / "bundle", *arguments) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
