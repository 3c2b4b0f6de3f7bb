"""`runtime info`: what it shows of a bundle and of the machine."""

import dataclasses
import json
from pathlib import Path

import pytest

from engines.bundle import open_bundle
from engines.manifest import Parity, PictureParity, TensorSpec
from runtime.__main__ import main
from tests.engines.plan_files import add_plan_set
from tests.runtime.stand_ins import MANIFEST, write_bundle

MANIFEST_WITH_FIGURES = dataclasses.replace(
    MANIFEST,
    trained_tags={"Cracked Skin": {"cracked skin": 40, "glowing cracked skin": 12}},
    components={
        **MANIFEST.components,
        "vae_decoder": dataclasses.replace(
            MANIFEST.components["vae_decoder"], dtype_reason="in fp16 Conv reaches infinity"
        ),
    },
    parity={"unet": (Parity("out_sample", 0.0012, 0.0001, 0.999999, 0.01, passed=True),)},
    pictures=(
        PictureParity("a", 1, 8, 7.0, 64, 48, 91.25, 0.999987, 60.0, 0.999, passed=True),
        PictureParity("b", 2, 8, 7.0, 64, 48, 41.25, 0.99, 60.0, 0.999, passed=False),
    ),
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
        "vae_decoder  float32 (in fp16 Conv reaches infinity)",
        "seed 1, 8 steps, 64x48  PSNR 91.2 dB (least 60), SSIM 0.99999 (least 0.999)\n",
        "seed 2, 8 steps, 64x48  PSNR 41.2 dB (least 60), SSIM 0.99000 (least 0.999), FAILED",
        "cpu  available",
        "DDIM  model",
    ):
        assert part in text
    assert "fixed" not in text


def test_it_shows_what_is_fixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    decoder = dataclasses.replace(
        MANIFEST.components["vae_decoder"],
        outputs=(TensorSpec("sample", "float32", ("batch", 3, 48, 64)),),
    )
    components = {**MANIFEST.components, "vae_decoder": decoder}
    manifest = dataclasses.replace(MANIFEST, components=components)
    arguments = ["info", "--bundle", str(write_bundle(tmp_path / "look", manifest))]
    assert main(arguments) == 0
    assert "fixed  picture_height 48, picture_width 64" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    fixed = json.loads(capsys.readouterr().out)["fixed"]
    assert fixed == {"picture_height": 48, "picture_width": 64}


def test_the_same_as_json(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--bundle", str(bundle), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["name"] == "stand-in"
    assert value["identity"] == MANIFEST.identity
    assert value["components"]["unet"] == {"dtype": "float32", "dtype_reason": "", "bytes": 0}
    assert [picture["passed"] for picture in value["pictures"]] == [True, False]
    assert value["parity"]["unet"][0]["max_error"] == 0.0012
    assert value["backends"]["cpu"] == "available"
    assert value["trained_tags"]["Cracked Skin"]["cracked skin"] == 40
    assert "karras" in value["samplers"]["DPM++ 2M"]


def test_it_lists_tensorrt_plans(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--bundle", str(bundle)]) == 0
    assert "TensorRT plans" not in capsys.readouterr().out
    add_plan_set(open_bundle(bundle), "sm86", "sm89")
    damaged, _ = add_plan_set(open_bundle(bundle), "sm120")
    (bundle / "engines" / "tensorrt-rtx-sm120" / "unet.plan").write_bytes(b"")
    (bundle / "engines" / "other").mkdir()
    assert main(["info", "--bundle", str(bundle)]) == 0
    text = capsys.readouterr().out
    assert "tensorrt-rtx-sm86-sm89  sm86, sm89 on linux-x86_64, 0.0 MB, fresh\n" in text
    assert "sm120 on linux-x86_64, 0.0 MB, cannot be used: unet.plan has 0 bytes" in text
    assert "  other  cannot be used: " in text
    assert main(["info", "--bundle", str(bundle), "--json"]) == 0
    plans = json.loads(capsys.readouterr().out)["plans"]
    assert [plan["targets"] for plan in plans] == [[], ["sm120"], ["sm86", "sm89"]]
    assert plans[1]["library_version"] == damaged.library_version
    assert [bool(plan["fault"]) for plan in plans] == [True, True, False]


def test_a_bundle_that_was_not_verified_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_bundle(tmp_path / "look")
    assert main(["info", "--bundle", str(path)]) == 0
    assert capsys.readouterr().out.count("not verified; run: convert verify") == 2


def test_hashes_are_compared_on_request(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["info", "--bundle", str(bundle)]
    assert main([*arguments, "--check"]) == 0
    assert "\nchecked  6 files, every hash is as exported\n" in capsys.readouterr().out
    assert main([*arguments, "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["checked"] is True
    scheduler = bundle / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace("0.012", "0.013"))
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["checked"] is False
    assert main([*arguments, "--check", "--quiet"]) == 1
    assert "scheduler_config.json has another content" in capsys.readouterr().err


def test_a_missing_bundle_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--bundle", str(tmp_path / "nowhere")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "There is no bundle at" in captured.err
