"""`runtime generate` with `--from`, grids, contact sheets and other formats, on stand-ins."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engines import backend
from runtime.__main__ import main
from runtime.init_settings import InitSettings
from runtime.picture_file import read_record, read_texts
from runtime.samplers.stochasticity import Stochasticity
from tests.runtime.stand_ins import MANIFEST, write_bundle


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with bundles/look in it, and stand-ins as the only backend."""
    write_bundle(tmp_path / "bundles" / "look")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backend, "_BACKENDS", {"stand-in": "tests.runtime.stand_ins:BACKEND"})
    return tmp_path


def generate(*arguments: str) -> None:
    assert main(["generate", *arguments, "--quiet"]) == 0


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["generate", *arguments, "--quiet"]) == 1
    return capsys.readouterr().err


def pixels(path: Path) -> "np.typing.NDArray[np.uint8]":
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_picture_is_made_again(
    suffix: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--preset cracked --steps 3 --cfg 3.3 --sampler euler --s-churn 2 --cfg-end 0.8"
    options += " --noise nv --subseed-strength 0.3 --size 128x64 --clip-skip 2"
    generate("a cat", *options.split(), "--out", f"a.{suffix}")
    capsys.readouterr()
    generate("--from", f"a.{suffix}", "--out", f"b.{suffix}")
    assert capsys.readouterr().err == "", "nothing to warn of"
    np.testing.assert_array_equal(
        pixels(workplace / f"a.{suffix}"), pixels(workplace / f"b.{suffix}")
    )
    assert read_record(workplace / f"a.{suffix}") == read_record(workplace / f"b.{suffix}")


def test_options_count_more_than_the_picture(workplace: Path) -> None:
    options = "--sampler ddim --eta 0.5 --cfg-start 0.3 --subseed 4 --subseed-strength 0.2"
    generate("a cat", "--preset", "cracked", *options.split(), "--out", "a.png", "--seed", "9")
    made, _ = read_record(workplace / "a.png")
    generate("--from", "a.png", "--out", "b.png", "--steps", "7", "--cfg-start", "0.1")
    again, _ = read_record(workplace / "b.png")
    guidance = dataclasses.replace(made.guidance, start=0.1)
    assert again == dataclasses.replace(made, steps=7, guidance=guidance)
    generate("a dog", "--from", "a.png", "--out", "c.png", "--subseed-strength", "0")
    other, _ = read_record(workplace / "c.png")
    noise = dataclasses.replace(made.noise, subseed=None, subseed_strength=0.0)
    assert other == dataclasses.replace(made, prompt="a dog", noise=noise)


def test_options_of_a_second_pass_count_more_than_the_picture(workplace: Path) -> None:
    options = "--hires-scale 1.5 --hires-upscaler lanczos"
    generate("a cat", *options.split(), "--out", "a.png")
    made, _ = read_record(workplace / "a.png")
    assert made.hires is not None
    for given, changed in (
        ("--hires-strength 0.4", {"strength": 0.4}),
        ("--hires-scale 2", {"scale": 2.0, "width": 128, "height": 128}),
        ("--hires-size 96x72 --hires-steps 2", {"scale": 0.0, "height": 72, "steps": 2}),
    ):
        generate("--from", "a.png", *given.split(), "--out", "b.png", "--force")
        again, _ = read_record(workplace / "b.png")
        assert again.hires == dataclasses.replace(made.hires, **changed)  # type: ignore[arg-type]
    generate("--from", "b.png", "--hires-scale", "1.5", "--out", "c.png")
    back, _ = read_record(workplace / "c.png")
    assert back.hires == dataclasses.replace(made.hires, steps=2), "a size gives way to a scale"


def test_a_second_pass_can_be_left_out(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate("a cat", "--hires-scale", "1.5", "--out", "hires.png")
    made, _ = read_record(workplace / "hires.png")
    Image.new("RGB", (64, 64)).save(workplace / "init.png")
    changed = ["--from", "hires.png", "--init", "init.png"]
    assert "leave one out (--hires-scale 1" in fails(capsys, *changed)
    generate(*changed, "--hires-scale", "1", "--out", "changed.png")
    init = read_record(workplace / "changed.png")[0].init
    assert init is not None
    generate("--from", "hires.png", "--hires-scale", "1", "--out", "small.png")
    small, _ = read_record(workplace / "small.png")
    assert small == dataclasses.replace(made, hires=None)
    generate("a cat", "--hires-scale", "1", "--out", "plain.png")
    assert read_record(workplace / "plain.png")[0].hires is None
    contradiction = ["a cat", "--hires-scale", "1", "--hires-steps", "3"]
    assert "--hires-scale 1 makes no second pass: leave --hires-steps out" in fails(
        capsys, *contradiction
    )


def test_another_sampler_leaves_out_what_it_does_not_take(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--sampler euler --s-churn 2 --s-tmin 0.5 --s-noise 1.1"
    generate("a", *options.split(), "--out", "a.png")
    made, _ = read_record(workplace / "a.png")
    capsys.readouterr()
    generate("--from", "a.png", "--sampler", "heun", "--out", "heun.png")
    assert capsys.readouterr().err == "", "Heun takes it all"
    assert read_record(workplace / "heun.png")[0].stochasticity == made.stochasticity
    generate("--from", "a.png", "--sampler", "euler a", "--out", "ancestral.png")
    assert "euler a takes no s_churn, s_tmin: left out" in capsys.readouterr().err
    assert read_record(workplace / "ancestral.png")[0].stochasticity == Stochasticity(s_noise=1.1)
    generate("--from", "a.png", "--sampler", "dpm++ 2m", "--out", "none.png")
    assert read_record(workplace / "none.png")[0].stochasticity == Stochasticity()
    asked = ("--from", "a.png", "--sampler", "dpm++ 2m", "--s-churn", "2")
    assert "DPM++ 2M takes no s_churn" in fails(capsys, *asked), "what is asked for is refused"


def test_a_picture_that_started_from_others_needs_them_again(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(1)
    for name, mode in (("init.png", "RGB"), ("other.png", "RGB"), ("mask.png", "L")):
        noise = random.integers(0, 256, (64, 64, 3)).astype(np.uint8)
        Image.fromarray(noise).convert(mode).save(workplace / name)
    options = "--init init.png --mask mask.png --strength 0.6 --mask-blur 2 --mask-content fill"
    generate("a cat", *options.split(), "--out", "a.png")
    without_both = fails(capsys, "--from", "a.png")
    assert re.search(
        r"the picture of 64x64 .* again \(--init\); the mask of .*--mask", without_both
    )
    without_mask = fails(capsys, "--from", "a.png", "--init", "init.png")
    assert re.search(r"the mask of 64x64 .*: give it again \(--mask\)", without_mask)
    assert "--init" not in without_mask
    again = ["--from", "a.png", "--mask", "mask.png", "--init"]
    generate(*again, "init.png", "--out", "b.png")
    assert read_record(workplace / "b.png") == read_record(workplace / "a.png")
    np.testing.assert_array_equal(pixels(workplace / "a.png"), pixels(workplace / "b.png"))
    assert capsys.readouterr().err == ""
    generate(*again, "other.png", "--strength", "0.8", "--out", "c.png")
    assert "--init is another picture than that of --from" in capsys.readouterr().err
    init = read_record(workplace / "c.png")[0].init
    assert init is not None
    assert init.mask is not None
    assert (init.strength, init.mask.blur, init.mask.content) == (0.8, 2.0, "fill")


def test_img2img_of_the_webuis(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its text says how much changed, and how the mask was used, but not of which pictures."""
    text = "a cat\nSteps: 4, Seed: 1, Size: 64x64, Denoising strength: 0.5, Masked content: fill"
    chunks = PngInfo()
    chunks.add_text("parameters", text)
    Image.new("RGB", (64, 64)).save(workplace / "webui.png", pnginfo=chunks)
    for name, mode in (("init.png", "RGB"), ("mask.png", "L")):
        Image.new(mode, (64, 64), "white").save(workplace / name)

    def init_of(*options: str) -> InitSettings | None:
        generate("--from", "webui.png", *options, "--out", "a.png", "--force")
        return read_record(workplace / "a.png")[0].init

    whole = init_of("--init", "init.png", "--mask", "mask.png")
    assert whole is not None
    assert whole.mask is not None
    assert (whole.strength, whole.mask.content, whole.mask.blur) == (0.5, "fill", 0.0)
    assert capsys.readouterr().err == "", "nothing is left out"
    other = init_of(
        *("--init", "init.png", "--strength", "0.75", "--mask", "mask.png", "--mask-blur", "2")
    )
    assert other is not None
    assert other.mask is not None
    assert (other.strength, other.mask.content, other.mask.blur) == (0.75, "fill", 2.0)
    assert capsys.readouterr().err == ""
    assert init_of("--init", "init.png") == dataclasses.replace(whole, mask=None)
    (warning,) = capsys.readouterr().err.splitlines()
    assert "made with a mask and does not name it: give it with --mask" in warning
    assert init_of() is None
    (warning,) = capsys.readouterr().err.splitlines()
    assert "with strength 0.5, and does not name it: give it with --init" in warning
    assert "--mask needs --init" in fails(capsys, "--from", "webui.png", "--mask", "mask.png")


def test_another_bundle_is_warned_of_by_name(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate("a cat", "--out", "a.png")
    manifest = dataclasses.replace(MANIFEST, name="glow", identity="f" * 64)
    write_bundle(workplace / "bundles" / "other", manifest)
    capsys.readouterr()
    generate("--from", "a.png", "--out", "b.png", "--bundle", "bundles/other")
    (warning,) = capsys.readouterr().err.splitlines()
    assert "the bundle stand-in (0123456789), this is glow (ffffffffff)" in warning


def test_pictures_that_say_nothing_are_refused(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (8, 8)).save(workplace / "plain.png")
    assert "does not say how it was made" in fails(capsys, "--from", "plain.png")
    assert "There is no picture nothing.png." in fails(capsys, "--from", "nothing.png")


def test_files_of_a_format_are_numbered_together(workplace: Path) -> None:
    for name in ("png", "jpg", "webp"):
        generate("a cat", "--seed", "5", "--format", name)
    names = sorted(file.name for file in (workplace / "out").iterdir())
    assert names == ["00001-5.png", "00002-5.jpg", "00003-5.webp"]
    for name in names:
        assert read_record(workplace / "out" / name)[0].seed == 5
    generate("a cat", "--out", "low.jpg", "--quality", "5")
    generate("a cat", "--out", "high.jpeg", "--quality", "100")
    assert (workplace / "low.jpg").stat().st_size < (workplace / "high.jpeg").stat().st_size


def test_a_grid_of_all_pictures(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "a cat", "--n", "3", "--seed", "5", "--grid", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["sheet"] == "out/00004-sheet.png"
    grid = pixels(workplace / result["sheet"])
    assert grid.shape == (132, 132, 3)
    for index, made in enumerate(result["pictures"]):
        top, left = index // 2 * 68, index % 2 * 68
        picture = pixels(workplace / made["file"])
        np.testing.assert_array_equal(grid[top : top + 64, left : left + 64], picture)
    generate("a cat", "--n", "3", "--seed", "5", "--grid", "--out", "only.png")
    np.testing.assert_array_equal(pixels(workplace / "only.png"), grid)
    assert "Seed: 5" in (read_texts(workplace / "only.png").parameters or "")


def test_a_sheet_is_in_order_though_pictures_end_in_another(workplace: Path) -> None:
    generate("a cat", "--seed", "5", "--sheet", "steps=9,2;cfg=1,4", "--out", "sheet.png")
    sheet = pixels(workplace / "sheet.png")
    for row, cfg in enumerate((1, 4)):
        for column, steps in enumerate((9, 2)):
            options = f"--seed 5 --steps {steps} --cfg {cfg} --out one.png --force"
            generate("a cat", *options.split())
            top = sheet.shape[0] - 132 + row * 68
            left = sheet.shape[1] - 132 + column * 68
            np.testing.assert_array_equal(
                sheet[top : top + 64, left : left + 64], pixels(workplace / "one.png")
            )
    text = read_texts(workplace / "sheet.png").parameters or ""
    assert "Steps: 9, " in text
    assert 'Sheet: "steps=9,2;cfg=1,4"' in text


def test_a_sheet_without_a_seed_has_one_by_chance(workplace: Path) -> None:
    generate("a cat", "--sheet", "cfg=2,3,4")
    files = sorted((workplace / "out").glob("*-[0-9]*.png"))
    assert len(files) == 3
    assert len({read_record(file)[0].seed for file in files}) == 1
    assert (workplace / "out" / "00004-sheet.png").is_file()


def test_a_schedule_that_was_asked_for_is_every_samplers(workplace: Path) -> None:
    def schedules(*options: str) -> list[str]:
        generate("--out", options[-1], "--sheet", "sampler=Euler,DPM++ 2M", *options[:-1])
        files = sorted((workplace / options[-1]).glob("*-[0-9]*.png"))
        return [read_record(file)[0].schedule for file in files]

    assert schedules("a cat", "--schedule", "exponential", "own") == ["exponential"] * 2
    assert schedules("a cat", "none") == ["normal", "karras"]
    source = next((workplace / "own").glob("00001-*"))
    assert schedules("--from", str(source), "recorded") == ["normal", "karras"]


def test_places_of_a_sheet_have_one_subseed(workplace: Path) -> None:
    generate("a cat", "--subseed-strength", "0.5", "--sheet", "cfg=2,3")
    files = (workplace / "out").glob("*-[0-9]*.png")
    assert len({read_record(file)[0].noise.subseed for file in files}) == 1


def test_a_subseed_counts_where_a_sheet_varies_its_strength(workplace: Path) -> None:
    generate("a cat", "--sheet", "subseed=1..2;subseed-strength=0,0.5")
    noises = [read_record(file)[0].noise for file in (workplace / "out").glob("*-[0-9]*.png")]
    assert sorted(noise.subseed or 0 for noise in noises) == [0, 0, 1, 2]
    generate("a cat", "--subseed", "7", "--sheet", "subseed-strength=0,0.5", "--out", "a.png")


def test_a_sheet_of_prompts_needs_no_other(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate("--sheet", "prompt=a cat,a dog")
    files = sorted((workplace / "out").glob("*-[0-9]*.png"))
    assert [read_record(file)[0].prompt for file in files] == ["a cat", "a dog"]
    with pytest.raises(SystemExit):
        main(["generate", "--sheet", "negative=a,b"])
    assert "give a PROMPT" in capsys.readouterr().err


def test_labels_of_empty_boxes_are_warned_of(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate("--sheet", "prompt=a cat,猫;negative=犬,dog", "--out", "a.png")
    (warning,) = capsys.readouterr().err.splitlines()
    assert "empty boxes for letters: '猫', 'negative 犬'" in warning


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--sheet subseed=1..3", "An axis subseed needs --subseed-strength"),
        ("--sheet subseed=1..3;subseed-strength=0", "An axis subseed needs --subseed-strength"),
        ("--sheet cfg=1,2 --subseed 3", "--subseed needs --subseed-strength above 0"),
        ("--sheet colour=1", "No axis 'colour'"),
        ("--sheet cfg=1,2 --n 2", "A sheet is of one prompt and one seed"),
        ("--sheet cfg=1,200", "the guidance scale 200 is not possible"),
        ("--sheet size=2048x2048,64x64;seed=1..40", "pixels is not possible as PNG"),
        ("--quality 50", "PNG files have no --quality"),
        ("--quality 0 --format jpg", "The quality 0 is not possible"),
        ("--format jpg --out a.webp", "is no JPEG file; leave --format out"),
        ("--out a.gif", "pictures are PNG, JPEG or WebP"),
    ],
)
def test_mistakes(
    arguments: str, message: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(workplace.rglob("*"))
    assert message in fails(capsys, "a cat", *arguments.split())
    assert sorted(workplace.rglob("*")) == before


def test_prompts_too_long_for_jpeg_are_refused_before_any_work(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "中 " * 5000
    assert "too long" in fails(capsys, long, "--negative", long, "--format", "jpg")


@pytest.mark.parametrize(
    ("width", "options", "name"),
    [
        (16_400, "--only-masked", "a.webp"),
        (16_400, "--only-masked --format webp", "out"),
        (65_504, "--only-masked", "a.jpg"),
    ],
)
def test_pictures_too_large_for_a_format_are_refused_before_any_work(
    width: int,
    options: str,
    name: str,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Those that are as large as the given one; what is worked on is much smaller."""
    mask = Image.new("L", (width, 64))
    Image.new("RGB", mask.size).save(workplace / "wide.png")
    mask.paste(255, (8, 8, 56, 56))
    mask.save(workplace / "mask.png")
    given = ["a cat", "--init", "wide.png", "--mask", "mask.png", "--size", "64x64"]
    with monkeypatch.context() as context:
        context.delattr("runtime.pipeline.Pipeline.generate")
        error = fails(capsys, *given, *options.split(), "--out", name)
    assert f"A picture of {width}x64 pixels is not possible as " in error
    assert not (workplace / name).exists()
    generate(*given, "--only-masked", "--out", "a.png")
    assert pixels(workplace / "a.png").shape == (64, width, 3)


def test_axes_too_long_for_jpeg_are_refused_before_any_work(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(workplace.rglob("*"))
    axis = "prompt=" + ",".join(f"{index} {'cat ' * 1000}" for index in range(9))
    assert "too long" in fails(capsys, "--sheet", axis, "--format", "jpg")
    assert sorted(workplace.rglob("*")) == before


def test_a_prompt_that_fits_a_grid_but_no_picture_is_refused_for_pictures_alone(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A picture's file holds the prompts twice, in its record too; a grid's file once.

    Runs of em spaces are few tokens, two bytes each in the text and six in the record's ASCII.
    """
    before = sorted(workplace.rglob("*"))
    long = ["a" + "\u2003" * 5_000 + "cat", "--negative", "b" + "\u2003" * 5_000 + "dog"]
    assert "too long" in fails(capsys, *long, "--grid", "--format", "jpg")
    assert "too long" in fails(capsys, *long, "--out", "one.jpg")
    assert sorted(workplace.rglob("*")) == before
    generate(*long, "--grid", "--out", "grid.jpg")
    text = read_texts(workplace / "grid.jpg").parameters or ""
    assert text.startswith(f"{long[0]}\nNegative prompt: {long[2]}\n")
