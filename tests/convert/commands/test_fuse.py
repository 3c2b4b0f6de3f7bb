"""`convert fuse` as a user meets it: results, and one line for every mistake."""

import json
import shutil
import signal
import subprocess
import sys
import textwrap
from hashlib import sha256
from pathlib import Path

import pytest

from convert import fuse as fuse_module
from convert.__main__ import main
from convert.commands.fuse import choose_recipe, parse_weights
from convert.fuse_record import read_record
from convert.tensor_writer import write_tensor_file
from engines.errors import SettingError
from tests.convert.synthetic import copy_base, edit_json, kohya_module, replace_file, write_lora

QUERY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
BROKEN_OFF = 20


@pytest.fixture
def base(demo_base: Path, tmp_path: Path) -> Path:
    return copy_base(demo_base, tmp_path / "inputs" / "base")


@pytest.fixture
def loras(demo_loras: tuple[Path, Path], tmp_path: Path) -> list[Path]:
    directory = tmp_path / "inputs"
    directory.mkdir(exist_ok=True)
    return [Path(shutil.copy(path, directory)) for path in demo_loras]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / "fused"


def _arguments(base: Path, loras: list[Path], out: Path, weights: str = "0.6,0.6") -> list[str]:
    files = [argument for path in loras for argument in ("--lora", str(path))]
    return ["fuse", "--base", str(base), *files, f"--weights={weights}", "--out", str(out), "-q"]


def _fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a failing command says."""
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("convert: error: ")
    return lines[0]


def _nothing_left(out: Path) -> bool:
    return not out.parent.exists() or not any(out.parent.iterdir())


def test_it_says_what_it_did(
    base: Path, loras: list[Path], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_arguments(base, loras, out)) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    digest = sha256(loras[0].read_bytes()).hexdigest()
    for part in (
        "custom: base and 2 LoRAs",
        f"cracked_skin_demo [{digest[:10].upper()}] at 0.6, LoRA of rank 16, alpha 16: ",
        "unet 192 of 281 layers, text_encoder 18 of 18 layers",
        "trained tags: cracked skin (",
        "peak",
    ):
        assert part in captured.out
    assert [path.name for path in out.parent.iterdir()] == ["fused"]


def test_json_and_the_recipe(
    out: Path, fused_demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fuse", "--recipe", "demo", "--out", str(out), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["out"] == str(out)
    assert value["seconds"] > 0
    assert value["peak_bytes"] > 50_000_000
    assert value["record"]["identity"] == read_record(fused_demo / "fuse.json").identity
    assert value["record"]["loras"][0]["coverage"]["unet"] == {"touched": 192, "layers": 281}


def test_no_recipe_is_left_where_base_and_loras_are_given() -> None:
    recipe = choose_recipe(None, "base", ["a.safetensors"], [0.5])
    assert (recipe.name, recipe.presets) == ("custom", {})
    with pytest.raises(SettingError, match="--weights is needed"):
        choose_recipe(None, "base", ["a.safetensors"], None)


def test_files_take_the_recipe_s_places() -> None:
    recipe = choose_recipe(None, None, ["x/a.safetensors", "b.safetensors"], None)
    assert recipe.name == "cracked-skin"
    assert recipe.presets
    assert [(lora.name, lora.weight) for lora in recipe.loras] == [("a", 0.6), ("b", 0.6)]
    assert choose_recipe(None, "here", None, None).base == "here"
    with pytest.raises(SettingError, match="named a"):
        choose_recipe(None, None, ["x/a.safetensors", "y/a.safetensors"], None)


def test_weights_are_a_list_of_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse_weights("0.6,-1, 2") == [0.6, -1.0, 2.0]
    with pytest.raises(SystemExit) as stopped:
        main(["fuse", "--weights", "0.6;0.6"])
    assert stopped.value.code == 2
    assert "not a list of numbers" in capsys.readouterr().err


class TestBadInput:
    """Each mistake: exit status 1, one helpful line, no output and no rest of one."""

    def test_a_missing_lora(
        self, base: Path, loras: list[Path], out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        loras[1].unlink()
        assert f"no LoRA file at {loras[1]}" in _fails(_arguments(base, loras, out), capsys)
        assert _nothing_left(out)

    def test_a_missing_base(
        self, tmp_path: Path, loras: list[Path], out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = _fails(_arguments(tmp_path / "gone", loras, out), capsys)
        assert "no base model at" in line
        assert _nothing_left(out)

    @pytest.mark.parametrize("kept", [0, 5, 1000, -1])
    def test_a_truncated_lora(
        self,
        base: Path,
        loras: list[Path],
        out: Path,
        capsys: pytest.CaptureFixture[str],
        kept: int,
    ) -> None:
        loras[0].write_bytes(loras[0].read_bytes()[:kept])
        line = _fails(_arguments(base, loras, out), capsys)
        assert str(loras[0]) in line
        assert "truncated" in line or "empty" in line
        assert _nothing_left(out)

    def test_a_truncated_base(
        self, base: Path, loras: list[Path], out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        weights = base / "unet" / "diffusion_pytorch_model.safetensors"
        replace_file(weights, weights.read_bytes()[:-10])
        assert "truncated" in _fails(_arguments(base, loras, out), capsys)
        assert _nothing_left(out)

    def test_a_login_page(
        self, base: Path, loras: list[Path], out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        loras[0].write_text("<!DOCTYPE html><html>Please log in</html>")
        assert "an HTML page" in _fails(_arguments(base, loras, out), capsys)
        assert _nothing_left(out)

    def test_a_lora_for_sdxl(
        self, base: Path, loras: list[Path], out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_lora(loras[0], kohya_module("lora_te1_text_model_x", (2, 8), (8, 2)))
        assert "is a LoRA for SDXL" in _fails(_arguments(base, loras, out), capsys)
        assert _nothing_left(out)

    def test_a_base_of_sdxl(
        self, base: Path, loras: list[Path], out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        edit_json(
            base / "model_index.json", lambda c: c.update(_class_name="StableDiffusionXLPipeline")
        )
        assert "is an SDXL model" in _fails(_arguments(base, loras, out), capsys)
        assert _nothing_left(out)

    @pytest.mark.parametrize("weights", ["0.6", "0.6,0.6,0.6"])
    def test_a_wrong_number_of_weights(
        self,
        base: Path,
        loras: list[Path],
        out: Path,
        capsys: pytest.CaptureFixture[str],
        weights: str,
    ) -> None:
        line = _fails(_arguments(base, loras, out, weights), capsys)
        assert line.endswith("in this order: cracked_skin_demo, offset_demo.")
        assert _nothing_left(out)

    def test_an_unknown_recipe(self, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        line = _fails(["fuse", "--recipe", "nope", "--out", str(out)], capsys)
        assert "no recipe 'nope'. Take one of cracked-skin, demo" in line
        assert _nothing_left(out)

    def test_keys_that_match_nothing(
        self, base: Path, loras: list[Path], out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_lora(loras[0], kohya_module("lora_unet_nowhere", (2, 8), (8, 2)))
        write_lora(loras[1], kohya_module(QUERY, (2, 7), (64, 2)))
        line = _fails(_arguments(base, loras, out), capsys)
        assert "match nothing in the base (1): lora_unet_nowhere" in line
        assert f"does not fit (1): {QUERY}" in line
        assert _nothing_left(out)

    def test_an_unwritable_place(
        self, base: Path, loras: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").write_text("")
        line = _fails(_arguments(base, loras, tmp_path / "file" / "out"), capsys)
        assert "Cannot write" in line

    def test_an_output_that_exists(
        self, base: Path, loras: list[Path], out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out.mkdir(parents=True)
        (out / "fuse.json").write_text("old")
        assert "Add --force" in _fails(_arguments(base, loras, out), capsys)
        assert (out / "fuse.json").read_text() == "old"
        assert main([*_arguments(base, loras, out), "--force"]) == 0
        assert read_record(out / "fuse.json").recipe == "custom"

    def test_a_directory_that_is_not_ours(
        self, base: Path, loras: list[Path], out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out.mkdir(parents=True)
        (out / "thesis.txt").write_text("precious")
        line = _fails([*_arguments(base, loras, out), "--force"], capsys)
        assert "left untouched" in line
        assert (out / "thesis.txt").read_text() == "precious"

    def test_json_has_the_error_too(self, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["fuse", "--recipe", "nope", "--out", str(out), "--json"]) == 1
        value = json.loads(capsys.readouterr().out)
        assert value["kind"] == "SettingError"
        assert "'nope'" in value["error"]


def test_an_interruption_leaves_nothing(
    base: Path,
    loras: list[Path],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls = iter(range(2))

    def interrupt(*arguments: object, **options: object) -> object:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return write_tensor_file(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(fuse_module, "write_tensor_file", interrupt)
    assert main(_arguments(base, loras, out)) == 130
    assert capsys.readouterr().err == "convert: interrupted\n"
    assert _nothing_left(out)


def test_a_kill_leaves_no_output_and_the_next_run_cleans_up(
    base: Path, loras: list[Path], out: Path
) -> None:
    arguments = _arguments(base, loras, out)
    script = f"""
        import os, signal
        from convert import fuse
        from convert.__main__ import main

        tensors = 0
        load = fuse.load_tensor

        def kill_later(tensor):
            global tensors
            tensors += 1
            if tensors == {BROKEN_OFF}:
                os.kill(os.getpid(), signal.SIGKILL)
            return load(tensor)

        fuse.load_tensor = kill_later
        fuse.check_complete = lambda base: None
        main({arguments!r})
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    assert len(list(out.parent.glob(".*.partial-*"))) == 1
    assert main(arguments) == 0
    assert [path.name for path in out.parent.iterdir()] == ["fused"]
