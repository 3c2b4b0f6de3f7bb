"""The text that steers a run: which embeddings the UNet sees at each row, and how they count."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.float32]
"""One text's embeddings, [tokens, width]."""


@dataclass(frozen=True)
class Conditioning:
    """A run's prompts, one or several that AND joins, and its negative prompt.

    All embeddings have one shape. Rows whose text is the same hold the very same arrays, so that
    a change is seen without comparing their content.

    Attributes:
        weights: how much each of the prompts counts.
        prompts: for each row of the table, the embeddings of each prompt.
        negative: for each row, the negative prompt's; None where no row needs it.
    """

    weights: tuple[float, ...]
    prompts: Sequence[tuple[Embeddings, ...]]
    negative: Sequence[Embeddings] | None


def needs_negative(weights: Sequence[float], guidance: float) -> bool:
    """Whether the negative prompt u has a part in u + sum of guidance * weight * (c - u)."""
    return not math.isclose(guidance * math.fsum(weights), 1, rel_tol=1e-9)
