"""`--from` beside options that do not go with what the file says, on stand-ins."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines import backend
from runtime.__main__ import main
from runtime.picture_file import read_record
from runtime.request import Settings
from runtime.resize import EXTEND, STRETCH
from runtime.samplers.stochasticity import Stochasticity
from tests.runtime.stand_ins import write_bundle


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a bundle, pictures and masks in it, and stand-ins as the only backend."""
    write_bundle(tmp_path / "bundles" / "look")
    random = np.random.default_rng(0)
    for name, width, height in (("first", 96, 128), ("odd", 203, 75), ("square", 96, 96)):
        pixels = random.integers(0, 256, (height, width, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        mask = Image.new("L", (width, height))
        mask.paste(255, (width // 2, 0, width, height))
        mask.save(tmp_path / f"{name}-mask.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backend, "_BACKENDS", {"stand-in": "tests.runtime.stand_ins:BACKEND"})
    return tmp_path


def made(*arguments: str, file: str = "made.png") -> Settings:
    assert main(["generate", *arguments, "--out", file, "--force", "--quiet"]) == 0
    return read_record(Path(file))[0]


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["generate", *arguments, "--quiet"]) == 1
    return capsys.readouterr().err


def size_of(settings: Settings) -> tuple[int, int]:
    return settings.width, settings.height


def masked(name: str) -> list[str]:
    return ["--init", f"{name}.png", "--mask", f"{name}-mask.png"]


def test_another_picture_brings_its_size() -> None:
    made("a cat", "--init", "first.png", file="a.png")
    assert size_of(made("--from", "a.png", "--init", "first.png")) == (96, 128)
    assert size_of(made("--from", "a.png", "--init", "odd.png")) == (200, 72)
    assert size_of(made("--from", "a.png", "--init", "odd.png", "--size", "64x72")) == (64, 72)
    made("a cat", "--size", "128x64", file="b.png")
    assert size_of(made("--from", "b.png", "--init", "square.png")) == (96, 96)


def test_a_recorded_size_of_the_same_picture_stays() -> None:
    asked = made("a cat", "--init", "first.png", "--size", "64x72", file="a.png")
    assert made("--from", "a.png", "--init", "first.png") == asked


def test_another_masked_picture_is_extended_only_where_it_must_be(workplace: Path) -> None:
    extended = made("a cat", *masked("odd"), file="a.png")
    assert extended.init is not None
    assert (size_of(extended), extended.init.resize) == ((208, 80), EXTEND)
    assert made("--from", "a.png", *masked("odd")) == extended
    square = made("--from", "a.png", *masked("square"))
    assert square.init is not None
    assert (size_of(square), square.init.resize) == ((96, 96), STRETCH)
    made("a cat", *masked("square"), file="b.png")
    back = made("--from", "b.png", *masked("odd"))
    assert back.init is not None
    assert (size_of(back), back.init.resize) == ((208, 80), EXTEND)
    with Image.open(workplace / "made.png") as image:
        assert image.size == (203, 75)


def test_extending_that_was_asked_for_stays() -> None:
    made("a cat", "--init", "odd.png", "--resize-mode", "extend", file="a.png")
    square = made("--from", "a.png", "--init", "square.png")
    assert square.init is not None
    assert (size_of(square), square.init.resize) == ((96, 96), EXTEND)


def test_the_size_of_work_on_the_masked_part_alone_is_no_pictures() -> None:
    made("a cat", *masked("square"), "--only-masked", "--size", "128x72", file="a.png")
    assert size_of(made("--from", "a.png", *masked("odd"))) == (128, 72)
    made("a cat", "--size", "128x72", file="b.png")
    assert size_of(made("--from", "b.png", *masked("odd"), "--only-masked")) == (128, 72)
    made("a cat", "--init", "first.png", file="c.png")
    own = made("--from", "c.png", *masked("odd"), "--only-masked")
    assert size_of(own) == (64, 64), "the bundle's, for that of the file was its picture's"


def test_options_without_effect_on_the_recorded_mask_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made("a cat", *masked("square"), "--only-masked", file="alone.png")
    padded = made("--from", "alone.png", *masked("square"), "--mask-padding", "3")
    assert padded.init is not None
    assert padded.init.mask is not None
    assert padded.init.mask.padding == 3
    crop = ["--resize-mode", "crop-and-resize"]
    assert "--resize-mode changes nothing where the masked part alone" in fails(
        capsys, "--from", "alone.png", *masked("square"), *crop
    )
    made("a cat", *masked("square"), file="whole.png")
    assert "--mask-padding needs --only-masked" in fails(
        capsys, "--from", "whole.png", *masked("square"), "--mask-padding", "3"
    )


@pytest.mark.parametrize(
    "options", ["--preset cracked", "--preset none", "--tags 3", "--sheet preset=cracked,glowing"]
)
def test_recorded_prompts_take_no_second_preset(
    options: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made("a cat", "--preset", "glowing", file="a.png")
    assert "The prompt in a.png has its preset and tags in it already: give a PROMPT" in fails(
        capsys, "--from", "a.png", *options.split()
    )


def test_a_prompt_of_ones_own_takes_a_preset(capsys: pytest.CaptureFixture[str]) -> None:
    asked = made("a cat", "--preset", "cracked", "--cfg", "2", file="a.png")
    assert asked.negative == "smooth skin, blurry"
    changed = ["a dog", "--from", "a.png", "--preset", "cracked"]
    assert "The negative prompt in a.png has that of its preset in it already" in fails(
        capsys, *changed
    )
    settings = made(*changed, "--negative", "hat")
    assert (settings.prompt, settings.negative) == ("cracked skin, a dog", "smooth skin, hat")
    assert settings.cfg == 2
    made("a cat", "--negative", "", file="b.png")
    assert made("a dog", "--from", "b.png", "--preset", "glowing").prompt.startswith("glowing, a")
    sheet = ["--sheet", "prompt=a,b;preset=none,glowing"]
    assert main(["generate", "--from", "b.png", *sheet, "--out", "sheet.png", "--quiet"]) == 0


def test_samplers_of_a_sheet_leave_out_what_they_do_not_take(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made("a", "--sampler", "Euler a", "--eta", "0.8", "--s-noise", "1.1", file="a.png")
    capsys.readouterr()
    axes = "sampler=Euler,Euler a,DPM++ 2M;cfg=2,3"
    assert main(["generate", "--from", "a.png", "--sheet", axes, "--quiet"]) == 0
    euler, multistep = capsys.readouterr().err.splitlines()
    assert "Euler takes no eta: left out" in euler
    assert "DPM++ 2M takes no eta, s_noise: left out" in multistep
    files = sorted((workplace / "out").glob("*-[0-9]*.png"))
    assert [read_record(file)[0].stochasticity for file in files] == 2 * [
        Stochasticity(s_noise=1.1),
        Stochasticity(eta=0.8, s_noise=1.1),
        Stochasticity(),
    ]


@pytest.mark.parametrize(
    "options",
    [
        "--eta 0.8 --sheet sampler=Euler",
        "--sheet sampler=Euler;eta=0.8",
        "--sheet eta=1 --s-churn 2",
    ],
)
def test_sampler_noise_that_is_asked_for_in_a_sheet_is_refused(
    options: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made("a", "--sampler", "Euler a", "--eta", "0.8", file="a.png")
    assert " takes no " in fails(capsys, "--from", "a.png", *options.split())


@pytest.mark.parametrize("schedule", ["model", "leading", "linspace", "trailing"])
def test_a_grid_names_the_spacing_of_its_first_picture(schedule: str) -> None:
    """A grid's file has no record, only the webui's text."""
    whole = ["--grid", "--seed", "3", "--out", "grid.png", "--quiet"]
    assert main(["generate", "a", "--sampler", "DPM++ 2M", "--schedule", schedule, *whole]) == 0
    assert made("--from", "grid.png").schedule == schedule
