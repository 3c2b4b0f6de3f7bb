"""Embeddings: emphasis by hand, chunks encoded alone and remembered."""

from collections.abc import Mapping

import numpy as np
import pytest

from engines import layout
from engines.session import Array
from runtime.text import PromptEncoder, emphasise
from tests.runtime.stand_ins import WIDTH, StandInSession, Words

LONG = " ".join(f"w{i}" for i in range(80))


class Recorder(StandInSession):
    """Remembers how many chunks each call had."""

    def __init__(self) -> None:
        super().__init__(layout.TEXT_ENCODER)

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        self._bound.clear()
        return super()._execute(feeds)


@pytest.fixture
def session() -> Recorder:
    return Recorder()


@pytest.fixture
def encoder(session: Recorder) -> PromptEncoder:
    return PromptEncoder(session, Words())


def test_emphasis_multiplies_and_restores_the_mean() -> None:
    hidden = np.array([[1, 2], [3, 4], [5, 9]], np.float32)
    # Weighted: 1 2 6 8 5 9, whose mean is 31/6; the mean before was 24/6.
    wanted = np.array([[1, 2], [6, 8], [5, 9]]) * 24 / 31
    np.testing.assert_allclose(emphasise(hidden, [1, 2, 1]), wanted, rtol=1e-6)


def test_without_emphasis_nothing_changes() -> None:
    hidden = np.random.default_rng(0).standard_normal((77, 8)).astype(np.float32)
    np.testing.assert_array_equal(emphasise(hidden, [1.0] * 77), hidden)


def test_both_prompts_have_the_length_of_the_longer(encoder: PromptEncoder) -> None:
    wanted, unwanted = encoder.encode(LONG, "short", 1)
    assert unwanted is not None
    assert wanted.shape == unwanted.shape == (154, WIDTH)
    assert wanted.dtype == np.float32
    _, empty = encoder.encode("a", "", 1)
    assert empty is not None
    np.testing.assert_array_equal(unwanted[77:], empty)
    wanted, unwanted = encoder.encode("short", LONG, 1)
    assert unwanted is not None
    assert wanted.shape == unwanted.shape == (154, WIDTH)


def test_without_a_negative_prompt_there_is_no_second_half(encoder: PromptEncoder) -> None:
    wanted, nothing = encoder.encode("a", None, 1)
    assert wanted.shape == (77, WIDTH)
    assert nothing is None


def test_chunks_are_encoded_in_one_call_and_remembered(
    encoder: PromptEncoder, session: Recorder
) -> None:
    first = encoder.encode(LONG, "b", 1)
    assert session.batches == [4], "two of the prompt, the negative one and an empty one"
    again = encoder.encode(LONG, "b", 1)
    assert session.batches == [4]
    for before, after in zip(first, again, strict=True):
        np.testing.assert_array_equal(before, after)
    encoder.encode("new", "b", 1)
    assert session.batches == [4, 1]


def test_weights_and_clip_skip_are_not_confused_in_memory(
    encoder: PromptEncoder, session: Recorder
) -> None:
    plain, _ = encoder.encode("a b", None, 1)
    strong, _ = encoder.encode("a (b)", None, 1)
    skipped, _ = encoder.encode("a b", None, 2)
    assert session.batches == [1, 1, 1]
    assert not np.allclose(plain, strong)
    np.testing.assert_allclose(skipped, plain * 0.5)


def test_the_memory_is_bounded(encoder: PromptEncoder, session: Recorder) -> None:
    for i in range(65):
        encoder.encode(f"prompt{i}", None, 1)
    encoder.encode("prompt64", None, 1)
    assert len(session.batches) == 65
    encoder.encode("prompt0", None, 1)
    assert len(session.batches) == 66
