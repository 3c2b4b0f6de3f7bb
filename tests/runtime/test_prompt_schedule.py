r"""Prompt editing, alternation and AND: schedules worked by hand from the webui's documentation.

https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/Features#prompt-editing
https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/Features#alternating-words
https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/Features#composable-diffusion
https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/Seed-breaking-changes (1.6.0)
"""

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import SettingError
from runtime.prompt_schedule import (
    MAX_DEPTH,
    MAX_PROMPTS,
    MAX_TEXTS,
    Alternation,
    Edit,
    Parts,
    parse_composition,
    parse_schedule,
    texts_by_step,
)


def _schedule(prompt: str, steps: int, steps_before: int = 0) -> list[tuple[int, str]]:
    """Each text in turn, and the step, from 1, that is its last."""
    texts = texts_by_step(parse_schedule(prompt), steps, steps_before)
    assert len(texts) == steps
    schedule: list[tuple[int, str]] = []
    for step, text in enumerate(texts, 1):
        if schedule and schedule[-1][1] == text:
            schedule.pop()
        schedule.append((step, text))
    return schedule


def test_the_documentations_example() -> None:
    """It has 100 steps and names what the picture is after steps 25, 50, 60 and 75."""
    prompt = (
        "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75]"
        "[ in foreground::0.6][ in background:0.25] [shoddy:masterful:0.5]"
    )
    a_mountain, a_lake = "fantasy landscape with a mountain", "fantasy landscape with a lake"
    assert _schedule(prompt, 100) == [
        (25, f"{a_mountain} and an oak in foreground shoddy"),
        (50, f"{a_lake} and an oak in foreground in background shoddy"),
        (60, f"{a_lake} and an oak in foreground in background masterful"),
        (75, f"{a_lake} and an oak in background masterful"),
        (100, f"{a_lake} and a christmas tree in background masterful"),
    ]


@pytest.mark.parametrize(
    ("prompt", "schedule"),
    [
        ("test", [(10, "test")]),
        ("", [(10, "")]),
        # a number of steps
        ("a [b:3]", [(3, "a "), (10, "a b")]),
        ("a [b: 3]", [(3, "a "), (10, "a b")]),
        ("a [b: 3 ]", [(3, "a "), (10, "a b")]),
        ("a [b::3]", [(3, "a b"), (10, "a ")]),
        ("a [b:c:3] d", [(3, "a b d"), (10, "a c d")]),
        ("[a:b:0]", [(10, "b")]),
        ("[a:b:-1]", [(10, "b")]),
        ("[a:b:+2]", [(2, "a"), (10, "b")]),
        ("[a:b:1]", [(1, "a"), (10, "b")]),
        ("[a:b:10]", [(10, "a")]),
        ("[a:b:11]", [(10, "a")]),
        ("[a:b:" + "9" * 500 + "]", [(10, "a")]),
        # a fraction of the steps
        ("[a:b:0.5]", [(5, "a"), (10, "b")]),
        ("[a:b:.5]", [(5, "a"), (10, "b")]),
        ("[a:b:0.29]", [(2, "a"), (10, "b")]),
        ("[a:b:0.05]", [(10, "b")]),
        ("[a:b:1.0]", [(10, "a")]),
        ("[a:b:1.25]", [(10, "a")]),
        ("[a:b:1.]", [(10, "a")]),
        ("[a:b:-0.5]", [(10, "b")]),
        ("[:a:0.5]", [(5, ""), (10, "a")]),
        ("[::0.5]", [(10, "")]),
        ("[:0.5]", [(10, "")]),
        # nested, in each other and in emphasis
        ("[a:[b:c:6]:3]", [(3, "a"), (6, "b"), (10, "c")]),
        ("[[a:b:3]:c:6]", [(3, "a"), (6, "b"), (10, "c")]),
        ("[[a::7]:3]", [(3, ""), (7, "a"), (10, "")]),
        ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
        ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
        ("([a:b:3]:1.2)", [(3, "(a:1.2)"), (10, "(b:1.2)")]),
        ("(a:[1.0:1.5:3])", [(3, "(a:1.0)"), (10, "(a:1.5)")]),
        ("[(a:1.2):(b, c:0.8):3] d", [(3, "(a:1.2) d"), (10, "(b, c:0.8) d")]),
        ("[a [b] c:d:3]", [(3, "a [b] c"), (10, "d")]),
        ("[a BREAK b:c:3]", [(3, "a BREAK b"), (10, "c")]),
        ("[a:b:3] [c:d:3]", [(3, "a c"), (10, "b d")]),
    ],
)
def test_editing_in_ten_steps(prompt: str, schedule: list[tuple[int, str]]) -> None:
    assert _schedule(prompt, 10) == schedule


@pytest.mark.parametrize(
    ("prompt", "first", "second"),
    [
        # The table of the page Seed breaking changes, with 20 steps and then 8.
        ("[red:green:0.25]", [(5, "red"), (20, "green")], [(8, "green")]),
        ("[red:green:1.25]", [(20, "red")], [(2, "red"), (8, "green")]),
        ("[red:green:5]", [(5, "red"), (20, "green")], [(8, "green")]),
        ("[red:green:25]", [(20, "red")], [(5, "red"), (8, "green")]),
        ("[red:green:2.0]", [(20, "red")], [(8, "red")]),
        ("[red:green:20]", [(20, "red")], [(8, "green")]),
    ],
)
def test_editing_in_two_passes(
    prompt: str, first: list[tuple[int, str]], second: list[tuple[int, str]]
) -> None:
    assert _schedule(prompt, 20) == first
    assert _schedule(prompt, 8, 20) == second


def test_alternation_begins_anew_in_the_second_pass() -> None:
    assert texts_by_step(parse_schedule("[a|b]"), 3, 21) == ("a", "b", "a")


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("[cow|horse] in a field", ["cow in a field", "horse in a field"] * 3),
        ("[a|b|c]", ["a", "b", "c"] * 2),
        ("[a|]", ["a", ""] * 3),
        ("[|a]", ["", "a"] * 3),
        ("[a||b]", ["a", "", "b"] * 2),
        ("[|]", [""] * 6),
        ("[a|(b:1.1)]", ["a", "(b:1.1)"] * 3),
        ("([a|b]:1.3)", ["(a:1.3)", "(b:1.3)"] * 3),
        ("[a|b][c|d|e]", ["ac", "bd", "ae", "bc", "ad", "be"]),
        ("[a|[b|c]]", ["a", "c"] * 3),  # the step decides inside too: 2, 4 and 6 are even
        ("[a|[b|c|d]]", ["a", "c", "a", "b", "a", "d"]),
        ("[[a|b]:c:3]", ["a", "b", "a", "c", "c", "c"]),
        ("[a|b:c]", ["a", "b:c"] * 3),
        ("[a|[b:c:3]]", ["a", "b", "a", "c", "a", "c"]),
    ],
)
def test_alternation(prompt: str, texts: list[str]) -> None:
    assert list(texts_by_step(parse_schedule(prompt), 6)) == texts


@pytest.mark.parametrize(
    "prompt",
    [
        r"\[cat:dog:0.5\]",
        r"\[cat|dog\]",
        r"[cat\|dog]",
        r"[cat\:0.5]",
        "(cat:0.5)",
        "(cat|dog)",
        "a|b",
        "cat:dog:0.5",
        "[a, b: c]",
        "[a]",
        "[a:b]",
        "[a:b:c]",
        "[a:b:0.5.1]",
        "[a:b:1e1]",
        "[a:b:0.5",
        "[a|b",
        "a:b:0.5]",
        "a|b]",
        "([a:b:0.5)",
        "[a (b:c:0.5]",
        "[:)] [:(]",
        "]:[",
        "\\",
        "a\\",
    ],
)
def test_what_only_looks_like_it_stays_as_it_is(prompt: str) -> None:
    assert parse_schedule(prompt) == (prompt,)


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("(a [b:c:1]", ("(a ", Edit(("b",), ("c",), "1"))),
        ("[a [b|c]", ("[a ", Alternation((("b",), ("c",))))),
        ("a ) [b:1] ]", ("a ) ", Edit((), ("b",), "1"), " ]")),
        ("([b:1]", ("(", Edit((), ("b",), "1"))),
        (r"[a\:b:c:1]", (Edit((r"a\:b",), ("c",), "1"),)),
    ],
)
def test_brackets_without_a_partner_are_text(prompt: str, parts: Parts) -> None:
    assert parse_schedule(prompt) == parts


@pytest.mark.parametrize(
    "prompt", ["[a|b:0.5]", "[a:b|c:3]", "[a:b:c:0.5]", "[a) b:c:0.5]", "[a)|b]"]
)
def test_what_could_mean_two_things_is_refused(prompt: str) -> None:
    with pytest.raises(SettingError, match="neither prompt editing") as caught:
        parse_schedule(prompt)
    assert prompt in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("a cat", [("a cat", 1)]),
        ("a cat AND a dog", [("a cat ", 1), (" a dog", 1)]),
        ("cat :1.2 AND dog AND owl :2.2", [("cat ", 1.2), (" dog ", 1), (" owl ", 2.2)]),
        ("a cat AND a dog:0.03", [("a cat ", 1), (" a dog", 0.03)]),
        ("a AND b: -1", [("a ", 1), (" b", -1)]),
        ("a AND b:.5 ", [("a ", 1), (" b", 0.5)]),
        ("a AND (b:2)", [("a ", 1), (" (b:2)", 1)]),
        ("a AND b:c", [("a ", 1), (" b:c", 1)]),
        ("a AND b:0", [("a ", 1)]),
        ("a:0 AND b:0", [("a", 0)]),
        (r"a AND b\:2", [("a ", 1), (r" b\:2", 1)]),
        ("ratio 16:9", [("ratio 16:9", 1)]),
        ("sANDy bAND", [("sANDy bAND", 1)]),
        ("a\nAND\nb", [("a\n", 1), ("\nb", 1)]),
        ("a AND", [("a ", 1), ("", 1)]),
        ("a AND [b:c:3] :2", [("a ", 1), (" b ", 2)]),
    ],
)
def test_and_joins_prompts(prompt: str, texts: list[tuple[str, float]]) -> None:
    joined = parse_composition(prompt)
    assert [(texts_by_step(each.parts, 10)[0], each.weight) for each in joined] == texts


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("a " + "AND a " * MAX_PROMPTS, "AND joins 17 prompts; 16 is the most"),
        ("a AND b:101", "weight 101 of a prompt joined by AND is not possible"),
        ("a AND b:-101", "weight -101"),
        ("a AND b:" + "9" * 400, "weight 999"),
        ("[" * (MAX_DEPTH + 1), "More than 100 brackets"),
        ("([" * 51, "More than 100 brackets"),
    ],
)
def test_excess_is_refused(prompt: str, message: str) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        parse_composition(prompt)
    assert len(str(caught.value)) < 300


def test_a_prompt_of_too_many_texts_is_refused() -> None:
    parts = parse_schedule("".join(f"[{i}:{i}]" for i in range(1, MAX_TEXTS)))
    assert len(set(texts_by_step(parts, 1000))) == MAX_TEXTS
    parts = parse_schedule("".join(f"[{i}:{i}]" for i in range(1, MAX_TEXTS + 1)))
    assert len(set(texts_by_step(parts, MAX_TEXTS))) == MAX_TEXTS
    with pytest.raises(SettingError, match="more than 128 different texts in 1000 steps"):
        texts_by_step(parts, 1000)


@pytest.mark.parametrize(
    "prompt",
    [
        "[" * MAX_DEPTH + "a" + ":1]" * MAX_DEPTH,
        "[a|" * MAX_DEPTH + "]" * MAX_DEPTH,
        "[a:b:1]" * 1400,
        "[a|b]" * 2000,
        "(" * MAX_DEPTH + ":" * 9000,
        "a" + " " * 9000 + "AND",
        ":" + "1" * 9000 + " AND a",
    ],
    ids=lambda prompt: prompt[:9],
)
def test_a_long_prompt_takes_no_long_time(prompt: str) -> None:
    started = time.process_time()
    try:
        for each in parse_composition(prompt):
            texts_by_step(each.parts, 1000)
    except SettingError:
        pass
    assert time.process_time() - started < 5


_PLAIN = st.text(alphabet="ab ,\n", min_size=1, max_size=4)
_SYNTAX = st.sampled_from([*"()[]:|", "\\", "0.5", "3", " AND ", "BREAK", ":1.2", "a", " ", ","])
_ANY = st.lists(_SYNTAX | st.characters(), max_size=40).map("".join)


def _text(parts: Parts) -> str:
    """The prompt that was read, put together again."""
    written = []
    for part in parts:
        match part:
            case Edit(before, after, when):
                written.append(f"[{_text(before)}:{_text(after)}:{when}]")
            case Alternation(options):
                written.append("[" + "|".join(map(_text, options)) + "]")
            case str():
                written.append(part)
    return "".join(written)


@given(_ANY)
@settings(max_examples=400, deadline=None)
def test_every_character_is_text_or_syntax(prompt: str) -> None:
    """Nothing is lost but the spaces around a number and the colon that `[to:when]` leaves out."""
    try:
        parts = parse_schedule(prompt)
    except SettingError:
        return
    dropped = str.maketrans("", "", ": \n\t")
    ours, theirs = ("".join(text.translate(dropped).split()) for text in (_text(parts), prompt))
    assert ours == theirs
    again = _text(parts)
    assert texts_by_step(parse_schedule(again), 7) == texts_by_step(parts, 7)


_TREES: st.SearchStrategy[Parts] = st.recursive(
    _PLAIN.map(lambda text: (text,)),
    lambda parts: st.one_of(
        st.tuples(parts, parts, st.sampled_from(["0.5", "3", "0", ".25"])).map(
            lambda edit: (Edit(*edit),)
        ),
        st.lists(parts, min_size=2, max_size=4).map(lambda options: (Alternation(tuple(options)),)),
    ),
    max_leaves=12,
)


@given(_TREES)
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_read_again(parts: Parts) -> None:
    assert parse_schedule(_text(parts)) == parts


@given(_ANY, st.integers(1, 12))
@settings(max_examples=400, deadline=None)
def test_any_prompt_is_read_or_refused(prompt: str, steps: int) -> None:
    try:
        joined = parse_composition(prompt)
        texts = list(itertools.chain.from_iterable(texts_by_step(p.parts, steps) for p in joined))
    except SettingError:
        return
    assert len(texts) == steps * len(joined)
    assert sum(map(len, texts)) <= steps * len(prompt)
