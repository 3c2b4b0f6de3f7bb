r"""Prompts that change while a picture is drawn, and prompts that AND joins.

`[from:to:when]` is `from` for the first `when` steps and `to` after them; `[to:when]` and
`[from::when]` leave the other side empty. `when` is a number of steps or, where it has a decimal
point, a fraction of them. `[a|b|...]` is a, b and so on in turn, one for each step. Both nest, in
each other and in brackets of emphasis, which `runtime.prompt` reads from the text that is left.
Of a picture's second pass, fractions from 1 to 2 are meant, and numbers of steps above those of the
first. `a :1.2 AND b` steers by several prompts at once, each with a weight that is 1 where none is
given.

Source: the webui's documentation, wiki pages Features, "Prompt editing", "Alternating Words" and
"Composable Diffusion", and Seed breaking changes, 1.6.0.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from engines.errors import SettingError

MAX_DEPTH = 100
"""How many brackets may be open at once."""
MAX_TEXTS = 128
"""How many different texts one prompt may be in the course of its steps."""
MAX_PROMPTS = 16
"""How many prompts AND may join."""
MAX_WEIGHT = 100.0
"""Of a prompt that AND joins, in either direction."""

_TOKEN = re.compile(r"\\.|[()\[\]:|]|[^\\()\[\]:|]+|\\", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)")
_AND = re.compile(r"\bAND\b")
_SHOWN = 80


@dataclass(frozen=True)
class Edit:
    """`[before:after:when]`; `when` is the number as it was written."""

    before: "Parts"
    after: "Parts"
    when: str


@dataclass(frozen=True)
class Alternation:
    """`[a|b|...]`."""

    options: tuple["Parts", ...]


Part = str | Edit | Alternation
Parts = tuple[Part, ...]
"""What stands one after the other: text that stays, and what changes by step."""


@dataclass(frozen=True)
class WeightedPrompt:
    """One of the prompts that AND joins, and how much it counts."""

    parts: Parts
    weight: float


def parse_composition(prompt: str) -> tuple[WeightedPrompt, ...]:
    """Read a prompt: the prompts that AND joins, one at least, without those of weight 0.

    A weight is read only where there is an AND: `ratio 16:9` alone is text.

    Raises:
        SettingError: as `parse_schedule`; or there are too many prompts, or too large a weight.
    """
    texts = _AND.split(prompt)
    if len(texts) == 1:
        return (WeightedPrompt(parse_schedule(prompt), 1.0),)
    if len(texts) > MAX_PROMPTS:
        raise SettingError(
            f"AND joins {len(texts)} prompts; {MAX_PROMPTS} is the most. Write `and` where the "
            "word is meant."
        )
    prompts = tuple(_weigh(text) for text in texts)
    return tuple(each for each in prompts if each.weight) or prompts[:1]


def has_and(prompt: str) -> bool:
    """Whether the word AND occurs that joins prompts."""
    return _AND.search(prompt) is not None


def split_last_weight(prompt: str) -> tuple[str, str]:
    """The weight that ends the last of several prompts, apart, as it is written with its colon.

    What is put behind a prompt belongs before it. It is "" where there is none.
    """
    text, weight = _split_weight(prompt) if has_and(prompt) else (prompt, "")
    return (text, f" :{weight}") if weight else (prompt, "")


def parse_schedule(prompt: str) -> Parts:
    """Read prompt editing and alternation; every other character stays as it is.

    Raises:
        SettingError: brackets look like prompt editing or alternation and cannot be read as one
            of them, or too many are open at once.
    """
    reader = _Reader()
    for token in _TOKEN.finditer(prompt):
        reader.take(token[0])
    return reader.finish()


def texts_by_step(parts: Parts, steps: int, steps_before: int = 0) -> tuple[str, ...]:
    """What the prompt is at each step.

    Args:
        parts: what `parse_schedule` returned.
        steps: how many steps there are.
        steps_before: for a picture's second pass, how many steps its first one had.

    Raises:
        SettingError: it would be more than `MAX_TEXTS` different texts.
    """
    if all(isinstance(part, str) for part in parts):
        return ("".join(map(str, parts)),) * steps
    texts: dict[str, str] = {}
    by_step = []
    for step in range(1, steps + 1):
        text = _text_at(parts, step, steps, steps_before)
        by_step.append(texts.setdefault(text, text))
        if len(texts) > MAX_TEXTS:
            raise SettingError(
                f"The prompt changes to more than {MAX_TEXTS} different texts in {steps} steps. "
                "Take fewer steps or alternatives."
            )
    return tuple(by_step)


def _text_at(parts: Parts, step: int, steps: int, steps_before: int) -> str:
    """The text at a step, counted from 1."""
    texts = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        if isinstance(part, Alternation):
            chosen = part.options[(step - 1) % len(part.options)]
        else:
            last = _last_step_before(part.when, steps, steps_before)
            chosen = part.before if step <= last else part.after
        texts.append(_text_at(chosen, step, steps, steps_before))
    return "".join(texts)


def _last_step_before(when: str, steps: int, steps_before: int) -> int:
    """A number with a decimal point is a fraction of the steps, rounded down."""
    if "." in when:
        number = (float(when) - (steps_before > 0)) * steps
    else:
        number = float(when) - steps_before
    return int(max(0.0, min(number, float(steps))))


def _weigh(text: str) -> WeightedPrompt:
    head, written = _split_weight(text)
    weight = float(written or 1)
    if abs(weight) > MAX_WEIGHT:
        raise SettingError(
            f"The weight {_shorten(written)} of a prompt joined by AND is not possible: "
            f"choose {-MAX_WEIGHT:g} to {MAX_WEIGHT:g}."
        )
    return WeightedPrompt(parse_schedule(head), weight)


def _split_weight(text: str) -> tuple[str, str]:
    """One of the prompts that AND joins, and the number that ends it; "" where there is none."""
    head, colon, tail = text.rpartition(":")
    if not colon or head.endswith("\\") or not _NUMBER.fullmatch(tail.strip()):
        return text, ""
    return head, tail.strip()


@dataclass
class _Frame:
    """What has been read since a bracket was opened; none for the outermost."""

    bracket: str
    parts: list[Part] = field(default_factory=list)
    colons: list[int] = field(default_factory=list)
    bars: list[int] = field(default_factory=list)
    balanced: bool = True


class _Reader:
    """The brackets that are open, from the outside in."""

    def __init__(self) -> None:
        self._frames = [_Frame("")]

    def take(self, token: str) -> None:
        """Read one token of the grammar."""
        frame = self._frames[-1]
        match token:
            case "(" | "[":
                if len(self._frames) > MAX_DEPTH:
                    raise SettingError(
                        f"More than {MAX_DEPTH} brackets of the prompt are not closed. For the "
                        r"brackets themselves write \( and \[."
                    )
                self._frames.append(_Frame(token))
            case ")" if frame.bracket == "(":
                self._close(["(", *frame.parts, ")"])
            case "]" if frame.bracket == "[":
                self._close(_read_square(frame))
            case ")":
                frame.balanced = False
                frame.parts.append(token)
            case ":":
                frame.colons.append(len(frame.parts))
                frame.parts.append(token)
            case "|":
                frame.bars.append(len(frame.parts))
                frame.parts.append(token)
            case _:
                frame.parts.append(token)

    def finish(self) -> Parts:
        """A bracket that is never closed is text, as far as this grammar goes."""
        while len(self._frames) > 1:
            self._close([self._frames[-1].bracket, *self._frames[-1].parts])
        return _join(self._frames[0].parts)

    def _close(self, parts: Sequence[Part]) -> None:
        """Put what the innermost bracket has become into the one around it."""
        self._frames.pop()
        self._frames[-1].parts.extend(parts)


def _read_square(frame: _Frame) -> list[Part]:
    """What closed square brackets are: an edit, an alternation, or text with its brackets."""
    parts, colons, bars = frame.parts, frame.colons, frame.bars
    when = parts[-1].strip() if parts and isinstance(parts[-1], str) else ""
    timed = bool(colons) and colons[-1] == len(parts) - 2 and bool(_NUMBER.fullmatch(when))
    if not timed and not bars:
        return ["[", *parts, "]"]
    if timed and not bars and len(colons) <= 2 and frame.balanced:
        before = parts[: colons[0]] if len(colons) == 2 else []
        after = parts[colons[0] + 1 : colons[1]] if len(colons) == 2 else parts[: colons[0]]
        return [Edit(_join(before), _join(after), when)]
    if bars and not timed and frame.balanced:
        edges = [-1, *bars, len(parts)]
        options = (parts[a + 1 : b] for a, b in pairwise(edges))
        return [Alternation(tuple(map(_join, options)))]
    shown = _shorten("".join(part if isinstance(part, str) else "[...]" for part in parts))
    raise SettingError(
        f"[{shown}] is neither prompt editing [from:to:when] nor alternation [a|b]. Put brackets "
        r"around one in the other, and write \) and \: for the characters themselves."
    )


def _join(parts: Sequence[Part]) -> Parts:
    """Neighbouring text in one piece."""
    joined: list[Part] = []
    text: list[str] = []
    for part in parts:
        if isinstance(part, str):
            text.append(part)
            continue
        if text:
            joined.append("".join(text))
            text.clear()
        joined.append(part)
    if text:
        joined.append("".join(text))
    return tuple(joined)


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
