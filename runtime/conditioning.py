"""The text that steers a run: which embeddings the UNet sees at each row, and how they count."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.floating[Any]]
"""One text's embeddings, [tokens, width], at best in the dtype of the UNet that they are fed to."""


@dataclass(frozen=True)
class Conditioning:
    """A run's prompts, one or several that AND joins, and its negative prompt.

    All embeddings have one shape. Rows whose text is the same hold the very same arrays, so that
    a change is seen without comparing their content.

    Attributes:
        weights: how much each of the prompts counts.
        prompts: for each row of the table, or each step, the embeddings of each prompt.
        negative: likewise the negative prompt's; None where it has no part.
    """

    weights: tuple[float, ...]
    prompts: Sequence[tuple[Embeddings, ...]]
    negative: Sequence[Embeddings] | None

    def at(self, steps: NDArray[np.int64]) -> "Conditioning":
        """From a row for each step to a row for each of `steps`, counted from 0.

        What is before the first step or behind the last sees the text of that step.
        """
        rows = steps.clip(0, len(self.prompts) - 1).tolist()
        return Conditioning(
            self.weights,
            [self.prompts[row] for row in rows],
            None if self.negative is None else [self.negative[row] for row in rows],
        )


def needs_negative(weights: Sequence[float], guidance: float) -> bool:
    """Whether the negative prompt u has a part in u + sum of guidance * weight * (c - u)."""
    return not math.isclose(guidance * math.fsum(weights), 1, rel_tol=1e-9)
