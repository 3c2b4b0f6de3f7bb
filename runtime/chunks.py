"""Weighted text to chunks of 77 tokens, cut as AUTOMATIC1111's webui cuts them.

A chunk holds 75 tokens of text between its start and end token. Where a chunk overflows and a
comma lies within its last 20 tokens, what follows the comma moves to the next chunk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from engines import layout
from runtime.prompt import Section

TEXT_TOKENS = layout.CHUNK_TOKENS - 2
COMMA_BACKTRACK = 20


class Vocabulary(Protocol):
    """What chunking needs of a tokenizer; see `ClipTokenizer`."""

    @property
    def start(self) -> int:
        """The id that opens a chunk."""

    @property
    def end(self) -> int:
        """The id that closes a chunk's text."""

    @property
    def padding(self) -> int:
        """The id that fills a chunk after its end."""

    @property
    def comma(self) -> int | None:
        """The id of a comma, or None where there is none."""

    def runs(self, text: str) -> list[tuple[int, ...]]:
        """The token ids of `text`; what a run holds must not be divided between two chunks."""


@dataclass(frozen=True)
class Chunk:
    """One row of the text encoder's input: 77 ids, and the factor for each of them.

    `tokens` of the ids are text.
    """

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    tokens: int


def make_chunks(sections: Sequence[Section], vocabulary: Vocabulary) -> list[Chunk]:
    """Tokenize a prompt into one chunk at least."""
    builder = _Builder(vocabulary)
    for i, section in enumerate(sections):
        if i > 0:
            builder.close_chunk()
        for span in section:
            for run in vocabulary.runs(span.text):
                builder.add(run, span.weight)
    return builder.finish()


def empty_chunk(vocabulary: Vocabulary) -> Chunk:
    """A chunk without text, which lengthens a prompt that is shorter than another."""
    return _chunk((), (), vocabulary)


class _Builder:
    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._chunks: list[Chunk] = []
        self._ids: list[int] = []
        self._weights: list[float] = []
        self._after_comma = 0

    def add(self, run: Sequence[int], weight: float) -> None:
        """Append a run of tokens, beginning a new chunk where it does not fit."""
        is_comma = len(run) == 1 and run[0] == self._vocabulary.comma
        if len(self._ids) == TEXT_TOKENS:
            tail = TEXT_TOKENS - self._after_comma
            if self._after_comma and not is_comma and tail < COMMA_BACKTRACK:
                self._split(self._after_comma)
            else:
                self.close_chunk()
        if len(self._ids) + len(run) > TEXT_TOKENS:
            self.close_chunk()
        self._ids.extend(run)
        self._weights.extend([weight] * len(run))
        if is_comma:
            self._after_comma = len(self._ids)

    def close_chunk(self) -> None:
        """End the current chunk, empty or not."""
        self._chunks.append(_chunk(self._ids, self._weights, self._vocabulary))
        self._ids, self._weights, self._after_comma = [], [], 0

    def finish(self) -> list[Chunk]:
        """The chunks; a prompt without any text is one empty chunk."""
        if self._ids or not self._chunks:
            self.close_chunk()
        return self._chunks

    def _split(self, at: int) -> None:
        ids, weights = self._ids[at:], self._weights[at:]
        del self._ids[at:], self._weights[at:]
        self.close_chunk()
        self._ids, self._weights = ids, weights


def _chunk(ids: Sequence[int], weights: Sequence[float], vocabulary: Vocabulary) -> Chunk:
    gap = TEXT_TOKENS - len(ids)
    return Chunk(
        (vocabulary.start, *ids, vocabulary.end, *[vocabulary.padding] * gap),
        (1.0, *weights, *[1.0] * (gap + 1)),
        len(ids),
    )
