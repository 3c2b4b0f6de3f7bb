"""docs/prompts.md says what the program does: its examples, which were written by hand."""

import re
from pathlib import Path

import pytest

from runtime.prompt import parse_prompt
from runtime.prompt_schedule import parse_composition, parse_schedule, texts_by_step

PAGE = Path(__file__).parents[2] / "docs" / "prompts.md"
STEPS = 20
_EXAMPLE = re.compile(r"^```(weights|steps|join)\n(.*?)\n((?:    .*\n)+)```$", re.MULTILINE)
_LINE = re.compile(r"(\S+?)(?:-(\d+))?  (.*)")

EXAMPLES = [
    (kind, prompt, [line[4:] for line in lines.splitlines()])
    for kind, prompt, lines in _EXAMPLE.findall(PAGE.read_text())
]


def test_every_example_is_read() -> None:
    assert len(EXAMPLES) == PAGE.read_text().count("```") / 2 >= 12


def _spans(prompt: str) -> list[str]:
    (section,) = parse_prompt(prompt)
    spans = [(span.text.strip(), f"{span.weight:.3g}") for span in section]
    return [f"{text}  {weight}" for text, weight in spans if text]


def _joined(prompt: str) -> list[str]:
    return [
        f"{each.weight:g}  {texts_by_step(each.parts, 1)[0].strip()}"
        for each in parse_composition(prompt)
    ]


@pytest.mark.parametrize(("kind", "prompt", "lines"), EXAMPLES, ids=[each[1] for each in EXAMPLES])
def test_an_example(kind: str, prompt: str, lines: list[str]) -> None:
    if kind == "weights":
        assert _spans(prompt) == lines
    elif kind == "join":
        assert _joined(prompt) == lines
    else:
        texts = texts_by_step(parse_schedule(prompt), STEPS)
        shown: list[str] = []
        for first, last, text in (match.groups() for match in map(_LINE.fullmatch, lines) if match):
            shown += [text] * (int(last or first) - int(first) + 1)
        assert list(texts[: len(shown)]) == shown
        assert len(shown) == STEPS or "|" in prompt
