"""`runtime info`: what it shows of a bundle and of the machine."""

import dataclasses
import json
from pathlib import Path

import pytest

from engines.manifest import Parity
from runtime.__main__ import main
from tests.runtime.stand_ins import MANIFEST, write_bundle

MANIFEST_WITH_FIGURES = dataclasses.replace(
    MANIFEST,
    trained_tags={"Cracked Skin": {"cracked skin": 40, "glowing cracked skin": 12}},
    parity={"unet": (Parity("out_sample", 0.0012, 0.0001, 0.999999, 0.01, passed=True),)},
)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "look", MANIFEST_WITH_FIGURES)


def test_it_shows_the_bundle_and_the_machine(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", "--bundle", str(bundle)]) == 0
    text = capsys.readouterr().out
    for part in (
        MANIFEST.identity,
        "DPM++ 2M karras, 4 steps, CFG 4, 64x64",
        "cracked, glowing",
        "cracked skin, glowing cracked skin",
        "unet  float32",
        "out_sample: at most 0.0012 off (tolerance 0.01)",
        "cpu  available",
        "DDIM  normal",
    ):
        assert part in text


def test_the_same_as_json(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--bundle", str(bundle), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["name"] == "stand-in"
    assert value["identity"] == MANIFEST.identity
    assert value["components"]["unet"] == {"dtype": "float32", "bytes": 0}
    assert value["parity"]["unet"][0]["max_error"] == 0.0012
    assert value["backends"]["cpu"] == "available"
    assert value["trained_tags"]["Cracked Skin"]["cracked skin"] == 40
    assert "karras" in value["samplers"]["DPM++ 2M"]


def test_a_bundle_that_was_not_verified_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_bundle(tmp_path / "look")
    assert main(["info", "--bundle", str(path)]) == 0
    assert "not verified; run: convert verify" in capsys.readouterr().out


def test_hashes_are_compared_on_request(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["info", "--bundle", str(bundle)]
    assert main([*arguments, "--check"]) == 0
    scheduler = bundle / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace("0.012", "0.013"))
    assert main([*arguments]) == 0
    assert main([*arguments, "--check", "--quiet"]) == 1
    assert "scheduler_config.json has another content" in capsys.readouterr().err


def test_a_missing_bundle_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--bundle", str(tmp_path / "nowhere")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "There is no bundle at" in captured.err
