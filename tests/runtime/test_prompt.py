"""The webui's grammar, on examples worked by hand from its documentation.

https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/Features#attentionemphasis
"""

import time

import pytest

from engines.errors import SettingError
from runtime.prompt import MAX_DEPTH, parse_prompt


def _spans(prompt: str) -> list[tuple[str, float]]:
    (section,) = parse_prompt(prompt)
    return [(span.text, round(span.weight, 9)) for span in section]


@pytest.mark.parametrize(
    ("prompt", "spans"),
    [
        ("", []),
        ("plain text, with commas", [("plain text, with commas", 1)]),
        ("a (word)", [("a ", 1), ("word", 1.1)]),
        ("a ((word))", [("a ", 1), ("word", 1.21)]),
        ("a [word] b", [("a ", 1), ("word", 0.909090909), (" b", 1)]),
        ("(word:1.5)", [("word", 1.5)]),
        ("(word:0.25)", [("word", 0.25)]),
        ("(word : 1.5 )", [("word ", 1.5)]),
        ("(word:.5)", [("word", 0.5)]),
        ("(word:2.)", [("word", 2)]),
        ("(word:-1)", [("word", -1)]),
        ("(a (b:1.5) c)", [("a ", 1.1), ("b", 1.65), (" c", 1.1)]),
        ("((a:1.5))", [("a", 1.65)]),
        ("[(a)]", [("a", 1)]),
        ("(a)(b)", [("ab", 1.1)]),
        ("(a) (b)", [("a", 1.1), (" ", 1), ("b", 1.1)]),
        ("()", []),
    ],
)
def test_brackets_weigh(prompt: str, spans: list[tuple[str, float]]) -> None:
    assert _spans(prompt) == spans


@pytest.mark.parametrize(
    ("prompt", "spans"),
    [
        (r"\(word\)", [("(word)", 1)]),
        (r"\[word\]", [("[word]", 1)]),
        (r"(a \(b\))", [("a (b)", 1.1)]),
        (r"a \\ b", [("a \\ b", 1)]),
        (r"a \b", [("a b", 1)]),
        (r"(word\:1.5)", [("word", 1.5)]),
        (r"\(word:1.5)", [("(word:1.5)", 1)]),
        ("a\\", [("a", 1)]),
    ],
)
def test_a_backslash_makes_brackets_text(prompt: str, spans: list[tuple[str, float]]) -> None:
    assert _spans(prompt) == spans


@pytest.mark.parametrize(
    ("prompt", "spans"),
    [
        ("a (b", [("a ", 1), ("b", 1.1)]),
        ("(a (b", [("a ", 1.1), ("b", 1.21)]),
        ("a [b", [("a ", 1), ("b", 0.909090909)]),
        ("a) b", [("a) b", 1)]),
        ("a] b", [("a] b", 1)]),
        ("a:1.5) b", [("a:1.5) b", 1)]),
        ("a :) b", [("a :) b", 1)]),
        ("(a :) b", [("a :", 1.1), (" b", 1)]),
        ("time 10:30", [("time 10:30", 1)]),
        ("(a:b)", [("a:b", 1.1)]),
        ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
        ("(a [b) c]", [("a ", 1.1), ("b", 1), (" c", 0.909090909)]),
    ],
)
def test_unbalanced_brackets(prompt: str, spans: list[tuple[str, float]]) -> None:
    assert _spans(prompt) == spans


@pytest.mark.parametrize(
    ("prompt", "sections"),
    [
        ("a BREAK b", [["a"], ["b"]]),
        ("a,\n BREAK \nb BREAK c", [["a,"], ["b"], ["c"]]),
        ("BREAK a", [[], ["a"]]),
        ("a BREAK", [["a"], []]),
        ("BREAKFAST break", [["BREAKFAST break"]]),
        ("(a BREAK b:2)", [["a"], ["b"]]),
    ],
)
def test_break_divides(prompt: str, sections: list[list[str]]) -> None:
    assert [[span.text for span in section] for section in parse_prompt(prompt)] == sections


def test_weights_reach_across_a_break() -> None:
    first, second = parse_prompt("(a BREAK b:2)")
    assert [first[0].weight, second[0].weight] == [2, 2]


LONG = 100_000


@pytest.mark.parametrize(
    "prompt",
    [
        ":" + "1" * LONG,
        "a" + " " * LONG + "b",
        "(" * MAX_DEPTH + ":" * LONG,
        "[" * MAX_DEPTH + "]" * LONG,
        "[" * MAX_DEPTH + ":1 " * (LONG // 3) + "x" + "]" * MAX_DEPTH,
        "(a" * MAX_DEPTH + ":1)" * LONG,
        "[a](b)" * (LONG // 6),
        "BREAK " * (LONG // 6),
    ],
    ids=lambda prompt: prompt[:9],
)
def test_a_long_prompt_takes_no_long_time(prompt: str) -> None:
    """What is read in steps of the length's square takes minutes here."""
    started = time.process_time()
    assert parse_prompt(prompt)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("bracket", ["(", "["])
def test_brackets_that_are_never_closed_are_refused(bracket: str) -> None:
    assert parse_prompt((bracket + "a") * MAX_DEPTH)
    with pytest.raises(SettingError, match=rf"More than 100 brackets \{bracket} "):
        parse_prompt((bracket + "a") * (MAX_DEPTH + 1))


@pytest.mark.parametrize(
    "prompt",
    [
        f"(a:1{'0' * 31})",
        f"(a:-1{'0' * 41})",
        f"(a:1{'0' * 309})",
        "(" * 50 + "a" + ":1000000000)" * 50,
        f"((a:1{'0' * 309}):0)",
    ],
)
def test_a_weight_beyond_all_numbers_is_refused(prompt: str) -> None:
    with pytest.raises(SettingError, match=r"more weight than possible: 1e\+30 is the most"):
        parse_prompt(prompt)
    assert parse_prompt(f"(a:1{'0' * 30})")
