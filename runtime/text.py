"""Prompts to the embeddings that steer the UNet."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import DTypeLike

from engines import layout
from engines.session import Session
from runtime.arrays import Float32Array
from runtime.calls import Calls
from runtime.chunks import Chunk
from runtime.conditioning import Conditioning, Embeddings
from runtime.prompt_plan import Chunks, PromptPlan

CHUNKS_PER_CALL = 64
"""How many chunks the text encoder takes in one call, at SD 1.5's width about 100 MB of memory."""

_REMEMBERED = 256

_OUTPUT_OF_CLIP_SKIP = {1: layout.LAST_HIDDEN_STATE, 2: layout.PENULTIMATE_HIDDEN_STATE}
CLIP_SKIPS = tuple(_OUTPUT_OF_CLIP_SKIP)
"""What `clip_skip` may be, counted as AUTOMATIC1111's webui counts: 1 is the last layer."""

_Key = tuple[Chunk, int]


class PromptEncoder:
    """Text encoding with emphasis, remembering the chunks that were used last.

    Each chunk is encoded on its own, so that embeddings do not depend on their neighbours.
    """

    def __init__(
        self, session: Session, dtype: DTypeLike = np.float32, most: int | None = None
    ) -> None:
        """Encode with the text encoder `session` to embeddings in `dtype`.

        Args:
            session: the graph.
            dtype: what the UNet takes.
            most: chunks that one call of the engine takes; None for as many as pay.
        """
        self._session = session
        self._dtype = dtype
        self._most = min(most or CHUNKS_PER_CALL, CHUNKS_PER_CALL)
        (self._ids,) = session.inputs
        self._known: OrderedDict[_Key, Embeddings] = OrderedDict()

    def encode(self, plan: PromptPlan, ahead: Iterable[PromptPlan] = ()) -> Calls[Conditioning]:
        """Embed the prompts of one picture.

        Chunks that are not known yet share as few calls of the text encoder as possible; where
        it has to be called, chunks of the plans `ahead` fill the call up.

        Returns:
            The embeddings [77 k, width] of every text, with a row for each step.
        """
        known = yield from self._embed([(chunk, plan.clip_skip) for chunk in plan.chunks()], ahead)
        texts: dict[Chunks, Embeddings] = {}

        def join(chunks: Chunks) -> Embeddings:
            if chunks not in texts:
                parts = [known[chunk, plan.clip_skip] for chunk in chunks]
                texts[chunks] = parts[0] if len(parts) == 1 else np.concatenate(parts)
            return texts[chunks]

        return Conditioning(
            plan.weights,
            [tuple(map(join, step)) for step in plan.prompts],
            None if plan.negative is None else [join(chunks) for chunks in plan.negative],
        )

    def _embed(
        self, wanted: list[_Key], ahead: Iterable[PromptPlan]
    ) -> Calls[dict[_Key, Embeddings]]:
        keys = dict.fromkeys(wanted)
        embeddings = {key: self._known[key] for key in keys if key in self._known}
        missing = [key for key in keys if key not in embeddings]
        if len(missing) % self._most:
            missing += self._unknown(ahead, set(keys), -len(missing) % self._most)
        for begin in range(0, len(missing), self._most):
            batch = missing[begin : begin + self._most]
            yield layout.TEXT_ENCODER
            embeddings.update(zip(batch, self._run(batch), strict=True))
        for key in embeddings:  # the last used go last
            self._known.pop(key, None)
        self._known.update(embeddings)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return embeddings

    def _unknown(self, plans: Iterable[PromptPlan], taken: set[_Key], most: int) -> list[_Key]:
        """Up to `most` chunks of `plans` that are neither known nor taken."""
        found: dict[_Key, None] = {}
        keys = chain.from_iterable(
            ((chunk, plan.clip_skip) for chunk in plan.chunks()) for plan in plans
        )
        for key in keys:
            if len(found) == most:
                break
            if key not in taken and key not in self._known:
                found[key] = None
        return list(found)

    def _run(self, keys: Sequence[_Key]) -> list[Embeddings]:
        ids = np.array([chunk.ids for chunk, _ in keys], self._ids.dtype)
        outputs = self._session.run({layout.INPUT_IDS: ids})
        embeddings = []
        for i, (chunk, clip_skip) in enumerate(keys):
            hidden = outputs[_OUTPUT_OF_CLIP_SKIP[clip_skip]][i].astype(np.float32)
            embeddings.append(emphasise(hidden, chunk.weights).astype(self._dtype, copy=False))
        return embeddings


def emphasise(hidden: Float32Array, weights: Sequence[float]) -> Float32Array:
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
    restored: Float32Array = scaled * (hidden.mean() / scaled.mean())
    return restored
