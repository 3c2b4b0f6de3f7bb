"""`runtime tokens` on a stand-in bundle."""

import json
from pathlib import Path

import pytest

from runtime.__main__ import main
from tests.runtime.stand_ins import write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_bundle(tmp_path_factory.mktemp("bundles") / "look"))


def test_a_prompt_is_shown_as_it_is_read(bundle: str, capsys: pytest.CaptureFixture[str]) -> None:
    prompt = "a [man:face:0.5] :1.2 AND b BREAK c"
    assert main(["tokens", prompt, "--bundle", bundle, "--steps", "8", "--preset", "none"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "prompt of weight 1.2",
        "  steps 1-4  2/150 tokens  a man",
        "  steps 5-8  2/150 tokens  a face",
        "prompt of weight 1",
        "  steps 1-8  2/150 tokens (1 + 1)  b BREAK c",
        "negative prompt",
        "  steps 1-8  1/150 tokens  blurry",
    ]


def test_json_has_every_text(bundle: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["tokens", "a", "[b|]", "--bundle", bundle, "--cfg", "1", "--steps", "2", "--json"]
    assert main(arguments) == 0
    first, second = json.loads(capsys.readouterr().out)["prompts"]
    assert first == {
        "prompts": [
            {
                "weight": 1.0,
                "texts": [{"first": 1, "last": 2, "text": "a", "chunks": [1], "tokens": 1}],
            }
        ],
        "negative": None,
        "room": 75,
        "chunks": 1,
    }
    assert [text["text"] for text in second["prompts"][0]["texts"]] == ["b", ""]


def test_without_guidance_the_negative_prompt_has_no_part(
    bundle: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tokens", "a", "--bundle", bundle, "--cfg", "1"]) == 0
    assert capsys.readouterr().out.endswith("negative prompt: has no part at this guidance\n")


def test_what_is_wrong_is_said(bundle: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", "[a|b:0.5]", "--bundle", bundle]) == 1
    assert "neither prompt editing" in capsys.readouterr().err


def test_clip_skip_is_checked(bundle: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", "a", "--bundle", bundle, "--clip-skip", "0"]) == 1
    assert "clip skip 0 is not possible: choose 1 or 2" in capsys.readouterr().err
    assert main(["tokens", "a", "--bundle", bundle, "--clip-skip", "2"]) == 0


def test_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", "a", "--bundle", str(tmp_path / "gone")]) == 1
    assert "There is no bundle" in capsys.readouterr().err
