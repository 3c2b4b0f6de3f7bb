r"""The prompt grammar of AUTOMATIC1111's webui: which text counts how much.

`(a)` counts 1.1 times, `[a]` 1/1.1 times, `(a:1.3)` 1.3 times, and nested brackets multiply. An
unclosed bracket reaches to the end; a closing one that nothing opened is text. `\(`, `\)`, `\[`,
`\]` and `\\` are the characters themselves, any other backslash vanishes. `BREAK` ends a chunk.

Source: the webui's documentation, wiki page Features, "Attention/emphasis" and "BREAK keyword".
The grammar's parts that change a prompt while it is drawn are refused, for to read them as plain
text would silently draw something else.
"""

import math
import re
from dataclasses import dataclass

from engines.errors import SettingError

ROUND = 1.1
SQUARE = 1 / 1.1
MAX_DEPTH = 100
"""How many brackets of a kind may be open at once: text is read as often as it is enclosed."""

_TOKEN = re.compile(
    r"""
    \\(?P<escaped>[()\[\]\\]?)
    | (?P<open>[(\[])
    | :\s*+(?P<weight>[+-]?(?:\d++(?:\.\d*+)?|\.\d++))\s*+\)
    | (?P<close>[)\]])
    | (?P<plain>[^\\()\[\]:]+|:)
    """,
    re.VERBOSE,
)
_BREAK = re.compile(r"\bBREAK\b")
_AND = re.compile(r"\bAND\b")
_ESCAPE = re.compile(r"\\.", re.DOTALL)
_SHOWN = 80
_SCHEDULE = re.compile(r"\||:\s*[\d.]+\s*$")


@dataclass(frozen=True)
class Span:
    """A piece of text and the factor by which it counts."""

    text: str
    weight: float


Section = tuple[Span, ...]
"""What stands between two BREAKs."""


def parse_prompt(prompt: str) -> tuple[Section, ...]:
    """Read a prompt: its sections, one more than it has BREAKs, as spans of equal weight.

    Raises:
        SettingError: the prompt uses prompt editing, alternation or AND, nests more than
            `MAX_DEPTH` brackets, or weighs text beyond all numbers.
    """
    if _AND.search(prompt):
        raise SettingError(
            "AND between prompts is not supported; write `and` where the word is meant."
        )
    reader = _Reader(prompt)
    for token in _TOKEN.finditer(prompt):
        reader.take(token)
    return reader.finish()


class _Reader:
    """The spans read so far and the brackets that are open, round and square on their own."""

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt
        self._texts: list[str | None] = []  # None is a BREAK
        self._weights: list[float] = []
        self._round: list[int] = []
        self._square: list[tuple[int, int]] = []

    def take(self, token: re.Match[str]) -> None:
        """Read one token of the grammar."""
        match token.lastgroup:
            case "open":
                self._open(token)
            case "weight" if self._round:
                self._scale(self._round.pop(), float(token["weight"]))
            case "close" if token["close"] == ")" and self._round:
                self._scale(self._round.pop(), ROUND)
            case "close" if token["close"] == "]" and self._square:
                first, start = self._square.pop()
                self._refuse_schedule(self._prompt[start : token.start()])
                self._scale(first, SQUARE)
            case "escaped":
                self._add(token["escaped"])
            case _:
                self._add_plain(token[0])

    def finish(self) -> tuple[Section, ...]:
        """Close what is still open and join neighbours of equal weight."""
        for first in self._round:
            self._scale(first, ROUND)
        for first, _ in self._square:
            self._scale(first, SQUARE)
        if not all(map(math.isfinite, self._weights)):
            raise SettingError("A part of the prompt has more weight than a number can be.")
        sections: list[list[Span]] = [[]]
        for text, weight in zip(self._texts, self._weights, strict=True):
            if text is None:
                sections.append([])
            elif sections[-1] and sections[-1][-1].weight == weight:
                sections[-1][-1] = Span(sections[-1][-1].text + text, weight)
            elif text:
                sections[-1].append(Span(text, weight))
        return tuple(tuple(section) for section in sections)

    def _open(self, token: re.Match[str]) -> None:
        if token["open"] == "(":
            self._round.append(len(self._texts))
        else:
            self._square.append((len(self._texts), token.end()))
        if max(len(self._round), len(self._square)) > MAX_DEPTH:
            raise SettingError(
                f"More than {MAX_DEPTH} brackets {token['open']} of the prompt are not closed. For "
                rf"the brackets themselves write \( and \[."
            )

    def _add(self, text: str | None) -> None:
        self._texts.append(text)
        self._weights.append(1.0)

    def _add_plain(self, text: str) -> None:
        first, *others = _BREAK.split(text)
        self._add(first.rstrip() if others else first)
        for i, other in enumerate(others, 1):
            self._add(None)
            self._add(other.strip() if i < len(others) else other.lstrip())

    def _scale(self, first: int, factor: float) -> None:
        for i in range(first, len(self._weights)):
            self._weights[i] *= factor

    def _refuse_schedule(self, inner: str) -> None:
        if _SCHEDULE.search(_ESCAPE.sub("", inner)):
            raise SettingError(
                f"[{_shorten(inner)}] is prompt editing or alternation, which is not supported. "
                f"For less weight write ({_shorten(inner.split(':')[0].split('|')[0])}:0.9); for "
                r"the brackets themselves write \[ and \]."
            )


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
