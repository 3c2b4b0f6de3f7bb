"""Chunks as the webui cuts them, counted by hand with a vocabulary of whole words."""

import pytest

from runtime.chunks import Chunk, empty_chunk, make_chunks
from runtime.prompt import parse_prompt
from tests.runtime.stand_ins import Words


def _chunks(prompt: str) -> tuple[Words, list[Chunk]]:
    words = Words()
    return words, make_chunks(parse_prompt(prompt), words)


def _texts(prompt: str) -> list[str]:
    """Each chunk's words, without what closes and fills it."""
    words, chunks = _chunks(prompt)
    texts = []
    for chunk in chunks:
        assert len(chunk.ids) == len(chunk.weights) == 77
        assert chunk.ids[0] == words.start
        end = chunk.ids.index(words.end)
        assert set(chunk.ids[end + 1 :]) <= {words.padding}
        texts.append(" ".join(words.words[token] for token in chunk.ids[1:end]))
    return texts


def _run(first: int, last: int) -> str:
    return " ".join(f"w{i}" for i in range(first, last + 1))


def test_no_text_is_one_empty_chunk() -> None:
    assert _texts("") == [""]
    assert _texts("   ") == [""]


def test_75_words_fill_a_chunk() -> None:
    assert _texts(_run(1, 75)) == [_run(1, 75)]
    assert _texts(_run(1, 76)) == [_run(1, 75), "w76"]
    assert [len(text.split()) for text in _texts(_run(1, 200))] == [75, 75, 50]


def test_what_follows_a_late_comma_moves_to_the_next_chunk() -> None:
    assert _texts(_run(1, 70) + ", " + _run(71, 80)) == [_run(1, 70) + " ,", _run(71, 80)]


@pytest.mark.parametrize(("before", "moves"), [(55, True), (54, False)])
def test_a_comma_counts_within_the_last_twenty_tokens(before: int, moves: bool) -> None:
    prompt = _run(1, before) + ", " + _run(before + 1, 90)
    first, _ = _texts(prompt)
    assert len(first.split()) == (before + 1 if moves else 75)


def test_the_last_comma_counts() -> None:
    prompt = _run(1, 60) + ", " + _run(61, 65) + ", " + _run(66, 80)
    assert _texts(prompt)[0] == _run(1, 60) + " , " + _run(61, 65) + " ,"


def test_a_comma_at_the_edge_stays_where_it_falls() -> None:
    assert _texts(_run(1, 74) + ", w75") == [_run(1, 74) + " ,", "w75"]
    assert _texts(_run(1, 75) + ", w76") == [_run(1, 75), ", w76"]
    assert _texts(_run(1, 60) + ", " + _run(61, 74) + ", w75") == [
        _run(1, 60) + " , " + _run(61, 74),
        ", w75",
    ]


def test_a_comma_of_an_earlier_chunk_does_not_count() -> None:
    prompt = _run(1, 74) + ", " + _run(75, 160)
    assert [len(text.split()) for text in _texts(prompt)] == [75, 75, 11]


def test_break_ends_a_chunk() -> None:
    assert _texts("a BREAK b") == ["a", "b"]
    assert _texts("BREAK a") == ["", "a"]
    assert _texts("a BREAK") == ["a"]


def test_weights_follow_their_tokens() -> None:
    words, (chunk,) = _chunks("a (b c:1.5) d")
    assert words.words == [",", "a", "b", "c", "d"]
    assert chunk.weights == (1, 1, 1.5, 1.5, 1, *[1] * 72)
    _, (_, second) = _chunks(_run(1, 70) + ", (" + _run(71, 80) + ":2)")
    assert second.weights == (1, *[2] * 10, *[1] * 66)


class Runs(Words):
    """Words of the form x3 are runs of so many tokens that stay together."""

    def runs(self, text: str) -> list[tuple[int, ...]]:
        runs: list[tuple[int, ...]] = []
        for word in text.split():
            together = word.startswith("x")
            runs += [tuple(range(1000, 1000 + int(word[1:])))] if together else super().runs(word)
        return runs


def test_a_run_is_never_divided() -> None:
    chunks = make_chunks(parse_prompt(_run(1, 73) + " x3 (x4:2) " + _run(1, 3)), Runs())
    assert [chunk.tokens for chunk in chunks] == [73, 10]
    assert chunks[1].ids[1:8] == (1000, 1001, 1002, 1000, 1001, 1002, 1003)
    assert chunks[1].weights[:9] == (1, 1, 1, 1, 2, 2, 2, 2, 1)
    (full,) = make_chunks(parse_prompt("x75"), Runs())
    assert full.tokens == 75


def test_a_run_after_a_late_comma_stays_behind_it() -> None:
    """It does not fit, so that the chunk ends before it; nothing else moves."""
    chunks = make_chunks(parse_prompt(_run(1, 70) + " , a x4 b"), Runs())
    assert [chunk.tokens for chunk in chunks] == [72, 5]


def test_tokens_are_counted() -> None:
    assert empty_chunk(Words()).tokens == 0
    assert [chunk.tokens for chunk in _chunks(_run(1, 80) + ", a")[1]] == [75, 7]
