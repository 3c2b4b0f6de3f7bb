"""Against transformers' CLIPTokenizer, on the demo vocabulary."""

import json
from pathlib import Path

import pytest

from engines.errors import BundleError
from runtime.tokenizer import ClipTokenizer
from tests.runtime.stand_ins import BASE

TEXTS = [
    "",
    " ",
    "portrait of a woman, blue skin, red background",
    "Portrait OF a Woman",
    "a  b\tc\nd\r\ne",
    "3 men, 1st of 2026, 1.5e-3",
    "don't, it's, we're, I've, I'm, they'll, she'd",
    "!!! ... ?! -- __ ~*~",
    "(a:1.3) [b] \\(c\\) {d} <e>",
    "café naïve Ångström ßẞ İstanbul",
    "cafe\u0301 A\u030angstro\u0308m",
    "中文 日本語 한국어 العربية हिन्दी",
    "🙂 👩‍🚀 🏳️‍🌈 a🙂b",
    "zero\u200bwidth nbsp\u00a0here \u2003em",
    "x" * 500,
    "skin, " * 80,
    "<|startoftext|> a <|endoftext|> b",
    "line\nbreak BREAK line",
    "\u0000\u0007 control",
]


@pytest.fixture(scope="module")
def ours() -> ClipTokenizer:
    return ClipTokenizer.open(BASE / "tokenizer" / "tokenizer.json")


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_transformers(ours: ClipTokenizer, text: str) -> None:
    from transformers import CLIPTokenizer

    directory = BASE / "tokenizer"
    theirs = CLIPTokenizer(
        vocab=str(directory / "vocab.json"), merges=str(directory / "merges.txt")
    )
    wanted = theirs(text)["input_ids"]
    assert [ours.start, *ours.encode(text), ours.end] == wanted


def test_the_special_tokens_are_read_from_the_file(ours: ClipTokenizer) -> None:
    vocabulary = json.loads((BASE / "tokenizer" / "vocab.json").read_text())
    assert ours.start == vocabulary["<|startoftext|>"]
    assert ours.end == ours.padding == vocabulary["<|endoftext|>"]
    assert ours.comma == vocabulary[",</w>"]


def test_nothing_is_cut_or_padded(ours: ClipTokenizer) -> None:
    assert len(ours.encode("skin, " * 80)) >= 160
    assert len(ours.encode("skin")) < 5


@pytest.mark.parametrize("content", [None, "", "{}", '{"version": "1.0"}'])
def test_a_file_that_is_no_tokenizer_is_a_bundle_error(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "tokenizer.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BundleError, match="Export the bundle again"):
        ClipTokenizer.open(file)


def test_a_tokenizer_that_is_not_clips_is_a_bundle_error(tmp_path: Path) -> None:
    content = json.loads((BASE / "tokenizer" / "tokenizer.json").read_text())
    content["padding"] = None
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(content))
    with pytest.raises(BundleError, match="not CLIP's"):
        ClipTokenizer.open(file)
