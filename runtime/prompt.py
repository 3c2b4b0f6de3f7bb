r"""The prompt grammar of AUTOMATIC1111's webui: which text counts how much.

`(a)` counts 1.1 times, `[a]` 1/1.1 times, `(a:1.3)` 1.3 times, and nested brackets multiply. An
unclosed bracket reaches to the end; a closing one that nothing opened is text. `\(`, `\)`, `\[`,
`\]` and `\\` are the characters themselves, any other backslash vanishes. `BREAK` ends a chunk.

What changes a prompt while it is drawn, and AND, has been resolved before (`runtime.
prompt_schedule`).

Source: the webui's documentation, wiki page Features, "Attention/emphasis" and "BREAK keyword".
"""

import re
from dataclasses import dataclass

from engines.errors import SettingError

ROUND = 1.1
SQUARE = 1 / 1.1
MAX_DEPTH = 100
"""How many brackets of a kind may be open at once: text is read as often as it is enclosed."""
MAX_WEIGHT = 1e30
"""Of a piece of text, in either direction: float32 holds sums of embeddings that count so much."""

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
        SettingError: the prompt nests more than `MAX_DEPTH` brackets, or weighs text more than
            `MAX_WEIGHT`.
    """
    reader = _Reader()
    for token in _TOKEN.finditer(prompt):
        reader.take(token)
    return reader.finish()


class _Reader:
    """The spans read so far and the brackets that are open, round and square on their own."""

    def __init__(self) -> None:
        self._texts: list[str | None] = []  # None is a BREAK
        self._weights: list[float] = []
        self._round: list[int] = []
        self._square: list[int] = []

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
                self._scale(self._square.pop(), SQUARE)
            case "escaped":
                self._add(token["escaped"])
            case _:
                self._add_plain(token[0])

    def finish(self) -> tuple[Section, ...]:
        """Close what is still open and join neighbours of equal weight."""
        for first in self._round:
            self._scale(first, ROUND)
        for first in self._square:
            self._scale(first, SQUARE)
        if not all(abs(weight) <= MAX_WEIGHT for weight in self._weights):
            raise SettingError(
                f"A part of the prompt has more weight than possible: {MAX_WEIGHT:g} is the most."
            )
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
        opened = self._round if token["open"] == "(" else self._square
        opened.append(len(self._texts))
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
