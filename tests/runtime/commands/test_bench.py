"""`runtime bench` on stand-ins: the table, the same as JSON, and what cannot be measured."""

import json
from pathlib import Path

import pytest

from engines import backend
from runtime.__main__ import main
from tests.runtime.stand_ins import write_bundle


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(tmp_path / "bundles" / "look")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backend, "_BACKENDS", {"stand-in": "tests.runtime.stand_ins:BACKEND"})


def test_the_table_and_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", "--rounds", "2", "--n", "2", "--size", "64x128", "--steps", "3", "-q"]
    assert main(arguments) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("bundles/look on stand-in (formulas; the fastest here")
    table = {line[:16].strip(): line[16:].split() for line in lines}
    assert [table[name][0] for name in ("text_encoder", "unet", "vae_decoder", "2 pictures")] == [
        *("2", "6", "4", "2")
    ]
    assert main([*arguments, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["backend"] == "stand-in"
    assert value["stages"]["unet"]["count"] == 6
    assert 0 < value["engine_share"] < 1


def test_nothing_to_measure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--rounds", "0", "-q"]) == 1
    assert "0 rounds cannot be measured" in capsys.readouterr().err
    assert not Path("out").exists()
