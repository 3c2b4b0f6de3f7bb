"""Where the name of an embedding counts in a text, and what becomes of the rest."""

from pathlib import Path

import pytest

from engines.manifest import EmbeddingSpec
from runtime.chunks import make_chunks
from runtime.prompt import parse_prompt
from runtime.textual_inversion import EmbeddingVocabulary
from runtime.tokenizer import ClipTokenizer

TOKENIZER = ClipTokenizer.open(
    Path(__file__).parents[2] / "demo" / "base" / "tokenizer" / "tokenizer.json"
)
FIRST = {"glow": 1000, "<cat-toy>": 1010, "bad hand": 1020, "glow2": 1030, "v4": 1040, "été": 1050}
VOCABULARY = EmbeddingVocabulary(
    TOKENIZER,
    {name: EmbeddingSpec(first, 2, f"{name}.safetensors", "") for name, first in FIRST.items()},
)


def _read(text: str) -> list[str | int]:
    """Embeddings by name, and how many other tokens there are between them."""
    names = {(first, first + 1): name for name, first in FIRST.items()}
    read: list[str | int] = []
    for run in VOCABULARY.runs(text):
        if run in names:
            read.append(names[run])
        elif read and isinstance(read[-1], int):
            read[-1] += 1
        else:
            read.append(1)
            assert len(run) == 1
    return read


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("glow", ["glow"]),
        ("GLOW Glow", ["glow", "glow"]),
        ("a glow, a", [1, "glow", 2]),
        ("a,glow.", [2, "glow", 1]),
        ("<cat-toy>, <CAT-TOY>", ["<cat-toy>", 1, "<cat-toy>"]),
        ("a<cat-toy>a", [1, "<cat-toy>", 1]),
        ("bad   \n hand", ["bad hand"]),
        ("glow2", ["glow2"]),
        ("glow 2", ["glow", 1]),
        ("glow3", ["glow", 1]),
        ("v4", ["v4"]),
        ("v4a", ["v4", 1]),
        ("été", ["été"]),
        ("_glow_", [1, "glow", 1]),
    ],
)
def test_a_name_counts_where_it_is_a_word(text: str, read: list[str | int]) -> None:
    assert _read(text) == read


@pytest.mark.parametrize("text", ["glowing", "aglow", "v42", "av4", "bad hands", "cat-toy", "étés"])
def test_a_name_inside_a_word_is_none(text: str) -> None:
    assert VOCABULARY.runs(text) == [(token,) for token in TOKENIZER.encode(text)]


def test_what_is_between_is_tokenized_as_ever() -> None:
    runs = VOCABULARY.runs("cracked skin, glow, blue hair's shine")
    plain = [run[0] for run in runs if len(run) == 1]
    assert plain == TOKENIZER.encode("cracked skin,") + TOKENIZER.encode(", blue hair's shine")


def test_without_embeddings_everything_is_text() -> None:
    runs = EmbeddingVocabulary(TOKENIZER, {}).runs("a glow")
    assert runs == [(token,) for token in TOKENIZER.encode("a glow")]
    assert EmbeddingVocabulary(TOKENIZER, {}).runs("") == []


def test_vectors_count_as_tokens_and_have_the_weight_of_their_name() -> None:
    (chunk,) = make_chunks(parse_prompt("(glow:1.5) a"), VOCABULARY)
    assert chunk.ids[:4] == (VOCABULARY.start, 1000, 1001, *TOKENIZER.encode("a"))
    assert chunk.weights[:4] == (1, 1.5, 1.5, 1)
    assert chunk.tokens == 3
