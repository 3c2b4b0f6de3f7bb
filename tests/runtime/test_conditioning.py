"""From texts by step to texts by row."""

import numpy as np
import pytest

from runtime.conditioning import Conditioning, needs_negative

TEXTS = [np.full((77, 8), i, np.float32) for i in range(6)]


def test_rows_see_the_text_of_their_step() -> None:
    """Two calls of one step see one text; what is behind the last step sees the last text."""
    text = Conditioning((1.0, 0.5), [(TEXTS[i], TEXTS[3]) for i in range(3)], TEXTS[3:])
    rows = text.at(np.array([0, 0, 1, 1, 2, 3]))
    assert rows.weights == text.weights
    assert [int(first[0, 0]) for first, _ in rows.prompts] == [0, 0, 1, 1, 2, 2]
    assert rows.prompts[0][0] is rows.prompts[1][0] is TEXTS[0]
    assert rows.negative is not None
    assert [int(each[0, 0]) for each in rows.negative] == [3, 3, 4, 4, 5, 5]


def test_without_a_negative_prompt() -> None:
    assert Conditioning((1.0,), [(TEXTS[0],)], None).at(np.array([0])).negative is None


@pytest.mark.parametrize(
    ("weights", "guidance", "needed"),
    [
        ((1.0,), 1.0, False),
        ((1.0,), 1.0001, True),
        ((1.0, 1.0), 1.0, True),
        ((0.1, 0.2, 0.7), 1.0, False),
        ((0.5,), 2.0, False),
        ((0.0,), 7.0, True),
        ((1.0, -1.0), 7.0, True),
    ],
)
def test_when_the_negative_prompt_has_a_part(
    weights: tuple[float, ...], guidance: float, needed: bool
) -> None:
    assert needs_negative(weights, guidance) == needed
