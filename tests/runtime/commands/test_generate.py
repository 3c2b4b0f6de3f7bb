"""`runtime generate` on stand-ins: files, results, and what the user got wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines import backend, layout
from runtime.__main__ import main
from runtime.guidance import GuidanceSettings
from runtime.hires import HiresSettings
from runtime.init_settings import InitSettings, MaskSettings
from runtime.picture_file import read_record
from runtime.resize import CROP
from runtime.samplers.stochasticity import Stochasticity
from runtime.seeds import NoiseSettings
from runtime.source_picture import SourcePicture
from tests.runtime.stand_ins import write_bundle


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with bundles/look in it, and stand-ins as the only backend."""
    write_bundle(tmp_path / "bundles" / "look")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backend, "_BACKENDS", {"stand-in": "tests.runtime.stand_ins:BACKEND"})
    return tmp_path


def _fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the program, expecting one line of error and exit status 1."""
    assert main(["generate", "a cat", *arguments, "--quiet"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("runtime: error: ")
    return line.removeprefix("runtime: error: ")


def test_the_only_bundle_and_out_are_the_defaults(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "a cat"]) == 0
    (file,) = (workplace / "out").iterdir()
    settings, origin = read_record(file)
    assert file.name == f"00001-{settings.seed}.png"
    assert settings.prompt == "a cat"
    assert origin.bundle == "stand-in"
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == (
        f"out/{file.name}  seed {settings.seed}  3/75 tokens, negative 1/75"
    )
    assert "bundles/look on stand-in (formulas; the fastest here)" in captured.out
    assert "4/4" in captured.err, "the progress bar counts steps"


def test_every_option_reaches_the_picture(workplace: Path) -> None:
    arguments = "--preset cracked --negative dog --seed 7 --steps 3 --cfg 2.5 --sampler ddim"
    arguments += " --schedule trailing --size 128x64 --clip-skip 2 --backend stand-in --quiet"
    arguments += " --bundle bundles/look --out cat.png"
    assert main(["generate", "a cat", *arguments.split()]) == 0
    settings, origin = read_record(workplace / "cat.png")
    assert (settings.prompt, settings.negative) == ("cracked skin, a cat", "smooth skin, dog")
    assert (settings.seed, settings.steps, settings.cfg) == (7, 3, 2.5)
    assert (settings.sampler, settings.schedule) == ("DDIM", "trailing")
    assert (settings.width, settings.height, settings.clip_skip) == (128, 64, 2)
    assert origin.backend == "stand-in"


def test_guidance_and_sampler_noise_reach_the_picture(workplace: Path) -> None:
    arguments = "--cfg-rescale 0.7 --cfg-start 0.2 --cfg-end 0.8 --sampler euler --s-churn 3"
    arguments += " --s-tmin 0.1 --s-tmax 9 --s-noise 1.01 --quiet --out cat.png"
    assert main(["generate", "a cat", *arguments.split()]) == 0
    settings, _ = read_record(workplace / "cat.png")
    assert settings.guidance == GuidanceSettings(0.7, 0.2, 0.8)
    assert settings.stochasticity == Stochasticity(None, 3.0, 0.1, 9.0, 1.01)
    assert main(["generate", "a", *["--sampler", "ddim", "--eta", "0.5", "--out", "a.png"]]) == 0
    assert read_record(workplace / "a.png")[0].stochasticity == Stochasticity(eta=0.5)


def test_several_prompts_and_pictures_as_json(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "a cat", "a dog", "--n", "2", "--seed", "5", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["backend"] == "stand-in"
    assert result["bundle"] == "bundles/look"
    made = result["pictures"]
    assert [(picture["prompt"], picture["seed"]) for picture in made] == [
        ("a cat", 5),
        ("a cat", 6),
        ("a dog", 5),
        ("a dog", 6),
    ]
    for picture in made:
        settings, _ = read_record(workplace / picture["file"])
        assert (settings.prompt, settings.seed) == (picture["prompt"], picture["seed"])
        assert picture["tokens"] == {"prompts": [3], "negative": 1, "room": 75}
    assert len({picture["file"] for picture in made}) == 4


def test_trained_tags_are_put_in(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "a cat", "--tags", "all", "--out", "a.png"]) == 1
    assert "stand-in knows no trained tags" in capsys.readouterr().err


def test_quiet_says_nothing_but_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "a cat", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_a_baked_lora_is_stripped_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "a cat <lora:Cracked Skin:1>", "--quiet"]) == 0
    (warning,) = capsys.readouterr().err.splitlines()
    assert "<lora:Cracked Skin:1> is ignored" in warning


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--sampler Euler9", "No sampler 'Euler9'; choose one of DPM++ 2M, "),
        ("--schedule polka", "no schedule 'polka'; choose one of automatic, "),
        ("--backend abacus", "No backend 'abacus'; choose one of auto, stand-in."),
        ("--size 100x64", "the width 100 is not a multiple of 8: choose 96 or 104."),
        ("--size 64x4096", "the height 4096 is not possible: choose 64 to 2048."),
        ("--steps 0", "0 steps are not possible"),
        ("--cfg 0", "the guidance scale 0 is not possible"),
        ("--n 0", "0 pictures at once are not possible"),
        ("--seed -1", "the seed -1 is not possible: choose 0 to 18446744073709551615, or give no"),
        ("--seed 18446744073709551615 --n 2", "choose 0 to 18446744073709551614 for 2 pictures"),
        (f"--n {10**30}", f"{10**30} pictures at once are not possible: choose 1 to 1000."),
        ("--subseed 3", "--subseed needs --subseed-strength above 0"),
        ("--cfg-rescale 2", "guidance rescale 2 is not possible: choose 0 to 1"),
        ("--cfg-start 0.5 --cfg-end 0.4", "guidance from 0.5 to 0.4 is not possible"),
        ("--eta 0.5 --sampler lms", "LMS takes no eta"),
        ("--clip-skip 9", "clip skip 9 is not possible"),
        ("--preset shiny", "No preset 'shiny'"),
        ("--bundle nowhere", "There is no bundle at nowhere. Make one with `convert all"),
        ("--bundle .", "is not a bundle: it holds no bundle.json"),
        ("--out cat.gif", "pictures are PNG"),
        ("--out /proc/nowhere/cat.png", "Cannot write"),
        ("--out cat.png --n 2", "2 pictures; give a directory"),
    ],
)
def test_mistakes_are_one_line(
    workplace: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    before = sorted(workplace.rglob("*"))
    assert message in _fails(capsys, *arguments.split())
    assert sorted(workplace.rglob("*")) == before, "nothing half-written"


def test_an_existing_picture_is_kept_without_force(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "cat.png").write_bytes(b"old")
    assert "exists already. Add --force" in _fails(capsys, "--out", "cat.png")
    assert (workplace / "cat.png").read_bytes() == b"old"
    assert main(["generate", "a cat", "--seed", "3", "--out", "cat.png", "--force"]) == 0
    assert read_record(workplace / "cat.png")[0].seed == 3


def test_a_directory_for_the_picture_can_be_in_the_way(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "file").touch()
    assert "is a file" in _fails(capsys, "--out", "file")
    assert "is a file" in _fails(capsys, "--out", "file/cat.png")


def test_a_place_that_may_not_be_written_is_said_before_any_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert "may not be written" in _fails(capsys, "--bundle", "nowhere")


def test_without_a_bundle_the_error_says_how_to_make_one(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "bundles").rename(workplace / "elsewhere")
    assert "convert all --recipe demo --out bundles/demo" in _fails(capsys)


def test_of_several_bundles_one_must_be_named(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle(workplace / "bundles" / "other")
    assert "name one with --bundle: bundles/look, bundles/other." in _fails(capsys)
    assert main(["generate", "a cat", "--bundle", "bundles/other"]) == 0


def test_damaged_and_foreign_bundles_are_named(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = workplace / "bundles" / "look"
    graph = bundle / layout.graph_file(layout.UNET)
    graph.write_bytes(b"x")
    assert "unet/model.onnx has 1 bytes instead of 0" in _fails(capsys)
    graph.unlink()
    assert "unet/model.onnx is missing" in _fails(capsys)
    manifest = bundle / layout.BUNDLE_FILE
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "revision": 99}))
    assert "is of revision 99; this version reads revision 1 only" in _fails(capsys)
    manifest.write_text("{")
    assert "cannot be read" in _fails(capsys)


def test_errors_are_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "a cat", "--steps", "0", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["kind"] == "SettingError"


@pytest.mark.parametrize(
    "arguments",
    [[], ["a cat", "--size", "big"], ["a cat", "--steps", "x"], ["a cat", "--strength"]],
)
def test_bad_usage_is_exit_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["generate", *arguments])
    assert caught.value.code == 2
    assert "usage: runtime" in capsys.readouterr().err


@pytest.fixture
def photo(workplace: Path) -> Path:
    """init.png, and mask.png beside it with a light right half."""
    pixels = np.random.default_rng(0).integers(0, 256, (72, 96, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(workplace / "init.png")
    mask = np.zeros((72, 96), np.uint8)
    mask[:, 48:] = 255
    Image.fromarray(mask).save(workplace / "mask.png")
    return workplace / "init.png"


def test_every_option_of_a_picture_to_start_from(workplace: Path, photo: Path) -> None:
    arguments = "--init init.png --strength 0.5 --size 64x128"
    arguments += " --mask mask.png --mask-blur 0 --mask-invert --mask-content Latent-Nothing"
    arguments += " --only-masked --mask-padding 5 --soft-mask --vae-tiling off"
    assert main(["generate", "a", *arguments.split(), "--out", "a.png", "--quiet"]) == 0
    settings, _ = read_record(workplace / "a.png")
    mask = MaskSettings(
        SourcePicture.open_mask(workplace / "mask.png"), 0.0, True, "latent nothing", True, 5, True
    )
    assert settings.init == InitSettings(SourcePicture.open(photo), 0.5, mask=mask)
    assert (settings.width, settings.height, settings.vae_tiling) == (64, 128, "off")
    with Image.open(workplace / "a.png") as made, Image.open(photo) as before:
        np.testing.assert_array_equal(np.asarray(made)[:, 48:], np.asarray(before)[:, 48:])
        assert (np.asarray(made)[:, :48] != np.asarray(before)[:, :48]).any()
    resized = ["--init", "init.png", "--resize-mode", "crop-and-resize", "--size", "64x128"]
    assert main(["generate", "a", *resized, "--out", "b.png", "--quiet"]) == 0
    cropped, _ = read_record(workplace / "b.png")
    assert cropped.init == InitSettings(SourcePicture.open(photo), resize=CROP)


@pytest.mark.parametrize(
    ("arguments", "hires"),
    [
        ("--hires-scale 1.5", HiresSettings(1.5, 96, 96, "latent", 4, 0.7)),
        (
            "--hires-size 128x96 --hires-upscaler Lanczos --hires-steps 2 --hires-strength 0.5",
            HiresSettings(0.0, 128, 96, "lanczos", 2, 0.5),
        ),
    ],
)
def test_every_option_of_hires_fix(workplace: Path, arguments: str, hires: HiresSettings) -> None:
    assert main(["generate", "a", *arguments.split(), "--out", "a.png", "--quiet"]) == 0
    settings, _ = read_record(workplace / "a.png")
    assert settings.hires == hires
    with Image.open(workplace / "a.png") as made:
        assert made.size == (hires.width, hires.height)


def test_every_option_of_seeds(workplace: Path) -> None:
    arguments = "--noise nv --subseed 5 --subseed-strength 0.5 --seed-resize-from 128x72"
    arguments += " --eta-noise-seed-delta 31337"
    assert main(["generate", "a", *arguments.split(), "--out", "a.png", "--quiet"]) == 0
    settings, _ = read_record(workplace / "a.png")
    assert settings.noise == NoiseSettings("nv", 5, 0.5, 128, 72, 31337)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--strength 0.5", "--strength needs --init."),
        ("--init init.png --mask-blur 3", "--mask-blur needs --mask."),
        ("--mask mask.png", "--mask needs --init"),
        ("--init init.png --only-masked", "--only-masked needs --mask."),
        ("--init init.png --mask mask.png --mask-padding 32", "--mask-padding needs --only-masked"),
        (
            "--init init.png --mask mask.png --only-masked --resize-mode just-resize",
            "--resize-mode changes nothing where the masked part alone is worked on",
        ),
        ("--init none.png", "There is no picture none.png."),
        ("--hires-steps 3", "--hires-steps needs --hires-scale or --hires-size."),
        ("--hires-size 0x0", "the hires width 0 is not possible: choose 64 to 2048."),
        ("--init init.png --mask-content void --mask mask.png", "no masked content 'void'"),
        ("--init init.png --resize-mode Void-x", "no resize mode 'Void-x': choose one of just-re"),
    ],
)
def test_what_is_wrong_with_pictures_to_start_from(
    photo: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    assert message in _fails(capsys, *arguments.split())
