"""A picture's prompts as chunks by step: lengths, counts, limits."""

import pytest

from engines.errors import SettingError
from runtime.chunks import make_chunks
from runtime.prompt import parse_prompt
from runtime.prompt_plan import MAX_CHUNKS, Chunks, PromptPlan, PromptPlanner, Reading, TokenCount
from tests.runtime.stand_ins import Words

LONG = " ".join(f"w{i}" for i in range(80))


@pytest.fixture
def words() -> Words:
    return Words()


def _plan(words: Words, prompt: str, negative: str = "", cfg: float = 7, **more: int) -> PromptPlan:
    planner = PromptPlanner(words, more.get("least", 1))
    return planner.plan(prompt, negative, more.get("steps", 4), cfg, 1)


def _chunks(words: Words, text: str) -> Chunks:
    return tuple(make_chunks(parse_prompt(text), words))


def test_a_prompt_that_stays_is_the_same_at_every_step(words: Words) -> None:
    plan = _plan(words, "a (b)", "c")
    assert plan.prompts == ((_chunks(words, "a (b)"),),) * 4
    assert plan.negative == (_chunks(words, "c"),) * 4
    assert plan.tokens == TokenCount((2,), 1, 75)
    assert plan.entries == 2


def test_every_text_of_every_step_has_the_length_of_the_longest(words: Words) -> None:
    plan = _plan(words, f"[a:{LONG}:2] AND b", "[c|d]")
    (empty,) = _chunks(words, "")
    assert plan.length == 2
    assert plan.prompts[1] == ((*_chunks(words, "a"), empty), (*_chunks(words, "b"), empty))
    assert plan.prompts[2] == (_chunks(words, LONG), (*_chunks(words, "b"), empty))
    assert plan.negative is not None
    assert plan.negative[3] == (*_chunks(words, "d"), empty)
    assert plan.tokens == TokenCount((80, 1), 1, 150)
    assert plan.entries == 3


@pytest.mark.parametrize(
    ("prompt", "cfg", "entries"),
    [
        ("a", 1, 1),
        ("a", 7, 2),
        ("a AND b", 1, 3),
        ("a AND b:-0.0", 1, 1),
        ("a:0.3 AND b:0.7", 1, 2),
        ("a:0.75 AND b:-0.5", 4, 3),
    ],
)
def test_the_negative_prompt_is_left_out_where_it_cancels_out(
    words: Words, prompt: str, cfg: float, entries: int
) -> None:
    plan = _plan(words, prompt, "n", cfg)
    assert plan.entries == entries
    assert (
        (plan.tokens.negative is None) == (plan.negative is None) == (entries == len(plan.weights))
    )


def test_chunks_of_the_first_steps_come_first(words: Words) -> None:
    chunks = list(dict.fromkeys(_plan(words, "[a|b] AND c", "n").chunks()))
    assert chunks == [_chunks(words, text)[0] for text in ("n", "a", "c", "b")]


def test_short_texts_are_lengthened_for_a_bundle_of_fixed_length(words: Words) -> None:
    plan = _plan(words, "a", "b", least=2)
    assert plan.length == 2
    assert plan.prompts[0][0][1] == _chunks(words, "")[0]
    assert plan.tokens == TokenCount((1,), 1, 150)
    assert _plan(words, LONG + LONG, "b", least=2).length == 3


def test_readings_say_how_each_text_is_read(words: Words) -> None:
    plan = _plan(words, f"[a:{LONG}:2]", "n")
    short, long = Reading("a", (1,)), Reading(LONG, (75, 5))
    assert plan.readings == ((short, short, long, long),)
    assert plan.negative_readings == (Reading("n", (1,)),) * 4
    assert long.tokens == 80


def test_a_second_pass_goes_on_where_the_first_has_ended(words: Words) -> None:
    plan = PromptPlanner(words).plan("[a:b:1.5]", "[c:d:6]", 4, 7.0, 1, steps_before=4)
    assert [reading.text for reading in plan.readings[0]] == ["a", "a", "b", "b"]
    assert [reading.text for reading in plan.negative_readings or ()] == ["c", "c", "d", "d"]


def test_too_many_chunks_are_refused_before_they_are_made(words: Words) -> None:
    breaks = "a " + "BREAK a " * 99
    assert _plan(words, f"[x|y] {breaks}").length == 100
    with pytest.raises(SettingError, match=f"chunks in the course.*{MAX_CHUNKS} chunks"):
        _plan(words, f"[{'|'.join(map(str, range(40)))}] {breaks}", steps=40)


def test_plans_are_remembered(words: Words) -> None:
    planner = PromptPlanner(words)
    plan = planner.plan("a", "b", 4, 7.0, 1)
    assert planner.plan("a", "b", 4, 7.0, 1) is plan
    assert planner.plan("a", "b", 4, 7.0, 2).clip_skip == 2
    for i in range(70):
        planner.plan(f"x{i}", "", 4, 7.0, 1)
    assert planner.plan("a", "b", 4, 7.0, 1) is not plan
