"""What a picture's two prompts are at each step, as text and as chunks, before they are encoded."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from engines.errors import SettingError
from runtime.chunks import TEXT_TOKENS, Chunk, Vocabulary, empty_chunk, make_chunks
from runtime.conditioning import needs_negative
from runtime.prompt import Section, parse_prompt
from runtime.prompt_schedule import parse_composition, parse_schedule, texts_by_step

MAX_CHUNKS = 1024
"""Chunks of all texts of one picture together: about 250 MB of embeddings."""

_REMEMBERED = 64

Chunks = tuple[Chunk, ...]


@dataclass(frozen=True)
class PromptTexts:
    """The texts of a picture's prompts, each read already, by step.

    Attributes:
        weights: how much each of the prompts counts that AND joins.
        prompts: for each of them, its text at each step.
        negative: the negative prompt's text at each step; None where it has no part.
        sections: every text, taken apart by `runtime.prompt`.
    """

    weights: tuple[float, ...]
    prompts: tuple[tuple[str, ...], ...]
    negative: tuple[str, ...] | None
    sections: dict[str, tuple[Section, ...]]


@dataclass(frozen=True)
class Reading:
    """One text as it is read: how many tokens each of its chunks has."""

    text: str
    chunks: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """How many tokens the text has."""
        return sum(self.chunks)


@dataclass(frozen=True)
class TokenCount:
    """How many tokens the longest text of each prompt has, and how many there is room for.

    Nothing is ever cut off: where a text needs it, all of them get another chunk.
    """

    prompts: tuple[int, ...]
    negative: int | None
    room: int


@dataclass(frozen=True)
class PromptPlan:
    """The chunks of a picture's prompts by step; every text has the same number of chunks.

    Attributes:
        weights: how much each of the prompts counts that AND joins.
        prompts: for each step, the chunks of each of them.
        negative: for each step, those of the negative prompt; None where it has no part.
        clip_skip: which layer of the text encoder is meant.
        readings: for each of the prompts, how it is read at each step.
        negative_readings: likewise for the negative prompt.
    """

    weights: tuple[float, ...]
    prompts: tuple[tuple[Chunks, ...], ...]
    negative: tuple[Chunks, ...] | None
    clip_skip: int
    readings: tuple[tuple[Reading, ...], ...]
    negative_readings: tuple[Reading, ...] | None

    @property
    def length(self) -> int:
        """Chunks of every text."""
        return len(self.prompts[0][0])

    @property
    def entries(self) -> int:
        """Entries of the UNet's batch that the picture takes."""
        return len(self.weights) + (self.negative is not None)

    @property
    def tokens(self) -> TokenCount:
        """How long the texts are."""
        negative = self.negative_readings
        return TokenCount(
            tuple(max(reading.tokens for reading in each) for each in self.readings),
            None if negative is None else max(reading.tokens for reading in negative),
            self.length * TEXT_TOKENS,
        )

    def chunks(self) -> Iterator[Chunk]:
        """Every chunk, those of the first steps first; some more than once."""
        for step, texts in enumerate(self.prompts):
            if self.negative is not None:
                yield from self.negative[step]
            for text in texts:
                yield from text


def read_prompts(
    prompt: str, negative: str, steps: int, guidance: float, steps_before: int = 0
) -> PromptTexts:
    """Read the grammar of both prompts.

    A negative prompt that has no part at the guidance scale may have one in steps that are left
    without guidance, which are those of scale 1.

    Args:
        prompt: the prompt.
        negative: the negative prompt; not read where it has no part.
        steps: how many steps the picture takes.
        guidance: the guidance scale.
        steps_before: for a picture's second pass, how many steps its first one had.

    Raises:
        SettingError: the grammar is used in a way that means nothing, or in excess.
    """
    joined = parse_composition(prompt)
    weights = tuple(each.weight for each in joined)
    texts = tuple(texts_by_step(each.parts, steps, steps_before) for each in joined)
    unwanted = None
    if needs_negative(weights, guidance) or needs_negative(weights, 1):
        unwanted = texts_by_step(parse_schedule(negative), steps, steps_before)
    every = dict.fromkeys(text for each in (*texts, unwanted or ()) for text in each)
    return PromptTexts(weights, texts, unwanted, {text: parse_prompt(text) for text in every})


class PromptPlanner:
    """Plans prompts for one bundle, remembering the last ones, for pictures often share them."""

    def __init__(self, vocabulary: Vocabulary, least: int = 1) -> None:
        """Plan with the tokens of `vocabulary`, and at least so many chunks for every text."""
        self._vocabulary = vocabulary
        self._least = least
        self._known: OrderedDict[tuple[str, str, int, float, int, int], PromptPlan] = OrderedDict()

    def plan(
        self,
        prompt: str,
        negative: str,
        steps: int,
        guidance: float,
        clip_skip: int,
        steps_before: int = 0,
    ) -> PromptPlan:
        """The plan of a picture's prompts, for one pass.

        Args:
            prompt: as in `read_prompts`.
            negative: likewise.
            steps: likewise.
            guidance: likewise.
            clip_skip: as in `plan_prompts`.
            steps_before: as in `read_prompts`.

        Raises:
            SettingError: as `read_prompts` and `plan_prompts`.
        """
        key = (prompt, negative, steps, guidance, clip_skip, steps_before)
        plan = self._known.pop(key, None)
        if plan is None:
            texts = read_prompts(prompt, negative, steps, guidance, steps_before)
            plan = plan_prompts(texts, self._vocabulary, clip_skip, self._least)
        self._known[key] = plan
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return plan


def plan_prompts(
    texts: PromptTexts, vocabulary: Vocabulary, clip_skip: int, least: int = 1
) -> PromptPlan:
    """Cut every text into chunks and lengthen the shorter ones with empty chunks.

    Args:
        texts: what `read_prompts` returned.
        vocabulary: the tokenizer.
        clip_skip: goes into the plan.
        least: how many chunks every text has at least.

    Raises:
        SettingError: all together have more than `MAX_CHUNKS`.
    """
    chunks: dict[str, list[Chunk]] = {}
    for text, sections in texts.sections.items():
        chunks[text] = make_chunks(sections, vocabulary)
        longest = max(least, *map(len, chunks.values()))
        if longest * len(texts.sections) > MAX_CHUNKS:
            raise SettingError(
                f"The prompts are {len(texts.sections)} texts of up to {longest} chunks in the "
                f"course of the steps; {MAX_CHUNKS} chunks is the most. Shorten them, or take "
                "fewer steps or alternatives."
            )
    empty = empty_chunk(vocabulary)
    padded = {text: (*cut, *[empty] * (longest - len(cut))) for text, cut in chunks.items()}

    readings = {
        text: Reading(text, tuple(chunk.tokens for chunk in cut)) for text, cut in chunks.items()
    }
    negative = texts.negative
    return PromptPlan(
        weights=texts.weights,
        prompts=tuple(
            tuple(padded[text] for text in step) for step in zip(*texts.prompts, strict=True)
        ),
        negative=None if negative is None else tuple(padded[text] for text in negative),
        clip_skip=clip_skip,
        readings=tuple(tuple(readings[text] for text in each) for each in texts.prompts),
        negative_readings=None if negative is None else tuple(readings[t] for t in negative),
    )
