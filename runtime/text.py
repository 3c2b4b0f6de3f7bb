"""Prompts to the embeddings that steer the UNet."""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from engines import layout
from engines.session import Session
from runtime.chunks import Chunk, Vocabulary, make_chunks, pad_together
from runtime.conditioning import Embeddings
from runtime.prompt import parse_prompt

_REMEMBERED = 64

_OUTPUT_OF_CLIP_SKIP = {1: layout.LAST_HIDDEN_STATE, 2: layout.PENULTIMATE_HIDDEN_STATE}
CLIP_SKIPS = tuple(_OUTPUT_OF_CLIP_SKIP)
"""What `clip_skip` may be, counted as AUTOMATIC1111's webui counts: 1 is the last layer."""


class PromptEncoder:
    """Text encoding with emphasis, remembering the chunks that were used last.

    Each chunk is encoded on its own, so that embeddings do not depend on their neighbours.
    """

    def __init__(self, session: Session, vocabulary: Vocabulary) -> None:
        """Encode with the text encoder `session` what `vocabulary` has tokenized."""
        self._session = session
        self._vocabulary = vocabulary
        (self._ids,) = session.inputs
        self._known: OrderedDict[tuple[Chunk, int], Embeddings] = OrderedDict()

    def encode(
        self, prompt: str, negative: str | None, clip_skip: int
    ) -> tuple[Embeddings, Embeddings | None]:
        """Embed a prompt and its negative prompt, with one call of the text encoder at most.

        Args:
            prompt: text in the grammar of `runtime.prompt`.
            negative: likewise; None where guidance leaves it out.
            clip_skip: one of `CLIP_SKIPS`.

        Returns:
            Two arrays [77 k, width] of one length, the second None where `negative` is.

        Raises:
            SettingError: the prompt's grammar is used in a way that is not supported.
        """
        wanted = make_chunks(parse_prompt(prompt), self._vocabulary)
        if negative is None:
            return np.concatenate(self._embed(wanted, clip_skip)), None
        unwanted = make_chunks(parse_prompt(negative), self._vocabulary)
        wanted, unwanted = pad_together(wanted, unwanted, self._vocabulary)
        embeddings = self._embed([*wanted, *unwanted], clip_skip)
        half = len(wanted)
        return np.concatenate(embeddings[:half]), np.concatenate(embeddings[half:])

    def _embed(self, chunks: Sequence[Chunk], clip_skip: int) -> list[Embeddings]:
        embeddings = {}
        missing = []
        for chunk in dict.fromkeys(chunks):
            known = self._known.pop((chunk, clip_skip), None)
            if known is None:
                missing.append(chunk)
            else:
                embeddings[chunk] = known
        if missing:
            embeddings.update(zip(missing, self._run(missing, clip_skip), strict=True))
        for chunk, embedding in embeddings.items():
            self._known[chunk, clip_skip] = embedding
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return [embeddings[chunk] for chunk in chunks]

    def _run(self, chunks: Sequence[Chunk], clip_skip: int) -> list[Embeddings]:
        ids = np.array([chunk.ids for chunk in chunks], self._ids.dtype)
        hidden = self._session.run({layout.INPUT_IDS: ids})[_OUTPUT_OF_CLIP_SKIP[clip_skip]]
        return [
            emphasise(state.astype(np.float32), chunk.weights)
            for chunk, state in zip(chunks, hidden, strict=True)
        ]


def emphasise(hidden: Embeddings, weights: Sequence[float]) -> Embeddings:
    """Scale each token's state by its weight and restore the mean of the whole.

    This is the emphasis that AUTOMATIC1111's webui calls "Original".

    Args:
        hidden: [77, width], one chunk's hidden states.
        weights: one factor for each token.

    Returns:
        [77, width]; `hidden` itself where every weight is 1.
    """
    if all(weight == 1 for weight in weights):
        return hidden
    scaled = hidden * np.array(weights, np.float32)[:, None]
    restored: Embeddings = scaled * (hidden.mean() / scaled.mean())
    return restored
