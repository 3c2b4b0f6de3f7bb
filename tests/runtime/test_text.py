"""Embeddings: emphasis by hand, chunks encoded alone and remembered."""

from collections.abc import Mapping

import numpy as np
import pytest

from engines import layout
from engines.session import Array
from runtime.calls import complete
from runtime.conditioning import Conditioning, Embeddings
from runtime.prompt import MAX_WEIGHT
from runtime.prompt_plan import PromptPlan, PromptPlanner
from runtime.text import CHUNKS_PER_CALL, PromptEncoder, emphasise
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
    return PromptEncoder(session)


@pytest.fixture
def planner() -> PromptPlanner:
    return PromptPlanner(Words())


def test_emphasis_multiplies_and_restores_the_mean() -> None:
    hidden = np.array([[1, 2], [3, 4], [5, 9]], np.float32)
    # Weighted: 1 2 6 8 5 9, whose mean is 31/6; the mean before was 24/6.
    wanted = np.array([[1, 2], [6, 8], [5, 9]]) * 24 / 31
    np.testing.assert_allclose(emphasise(hidden, [1, 2, 1]), wanted, rtol=1e-6)


def test_without_emphasis_nothing_changes() -> None:
    hidden = np.random.default_rng(0).standard_normal((77, 8)).astype(np.float32)
    np.testing.assert_array_equal(emphasise(hidden, [1.0] * 77), hidden)


@pytest.mark.filterwarnings("error")
def test_the_greatest_weight_leaves_numbers() -> None:
    hidden = np.full((77, 768), 30, np.float32)
    for weight in (MAX_WEIGHT, -MAX_WEIGHT):
        assert np.isfinite(emphasise(hidden, [1.0, *[weight] * 75, 1.0])).all()


def _one(text: Conditioning) -> tuple[Embeddings, Embeddings]:
    """The embeddings of the only step."""
    assert text.negative is not None
    ((wanted,),), (unwanted,) = text.prompts, text.negative
    return wanted, unwanted


def _plain(planner: PromptPlanner, prompt: str, clip_skip: int = 1) -> PromptPlan:
    """A prompt without a negative one, for one step."""
    return planner.plan(prompt, "", 1, 1.0, clip_skip)


def test_embeddings_are_rounded_once_to_the_dtype_that_they_are_fed_in(
    planner: PromptPlanner,
) -> None:
    """After emphasis, which is computed in float32."""
    plan = _plain(planner, "a (b:1.3)")
    ((exact,),) = complete(PromptEncoder(Recorder()).encode(plan)).prompts
    ((rounded,),) = complete(PromptEncoder(Recorder(), "float16").encode(plan)).prompts
    assert rounded.dtype == np.float16
    np.testing.assert_array_equal(rounded, exact.astype(np.float16))


def test_both_prompts_have_the_length_of_the_longer(
    encoder: PromptEncoder, planner: PromptPlanner
) -> None:
    wanted, unwanted = _one(complete(encoder.encode(planner.plan(LONG, "short", 1, 7.0, 1))))
    assert wanted.shape == unwanted.shape == (154, WIDTH)
    assert wanted.dtype == np.float32
    _, empty = _one(complete(encoder.encode(planner.plan("a", "", 1, 7.0, 1))))
    np.testing.assert_array_equal(unwanted[77:], empty)
    wanted, unwanted = _one(complete(encoder.encode(planner.plan("short", LONG, 1, 7.0, 1))))
    assert wanted.shape == unwanted.shape == (154, WIDTH)


def test_without_a_negative_prompt_there_is_no_second_half(
    encoder: PromptEncoder, planner: PromptPlanner
) -> None:
    text = complete(encoder.encode(_plain(planner, "a")))
    assert text.prompts[0][0].shape == (77, WIDTH)
    assert text.negative is None


def test_chunks_are_encoded_in_one_call_and_remembered(
    encoder: PromptEncoder, planner: PromptPlanner, session: Recorder
) -> None:
    first = _one(complete(encoder.encode(planner.plan(LONG, "b", 1, 7.0, 1))))
    assert session.batches == [4], "two of the prompt, the negative one and an empty one"
    again = _one(complete(encoder.encode(planner.plan(LONG, "b", 1, 7.0, 1))))
    assert session.batches == [4]
    for before, after in zip(first, again, strict=True):
        np.testing.assert_array_equal(before, after)
    complete(encoder.encode(planner.plan("new", "b", 1, 7.0, 1)))
    assert session.batches == [4, 1]


def test_every_step_and_prompt_shares_one_call(
    encoder: PromptEncoder, planner: PromptPlanner, session: Recorder
) -> None:
    plan = planner.plan("[a|b] c AND [d:e:0.5] :0.5", "[f:g:3]", 8, 7.0, 1)
    text = complete(encoder.encode(plan))
    assert session.batches == [6]
    assert text.weights == (1.0, 0.5)
    assert text.negative is not None

    def alone(prompt: str) -> Embeddings:
        return complete(PromptEncoder(Recorder()).encode(_plain(planner, prompt))).prompts[0][0]

    for step, (first, second) in enumerate(text.prompts):
        np.testing.assert_array_equal(first, alone("a c" if step % 2 == 0 else "b c"))
        np.testing.assert_array_equal(second, alone("d" if step < 4 else "e"))
        np.testing.assert_array_equal(text.negative[step], alone("f" if step < 3 else "g"))


def test_texts_that_are_equal_are_one_array(encoder: PromptEncoder, planner: PromptPlanner) -> None:
    """By this the denoiser sees that nothing changed."""
    for prompt in ("[a|b]", f"[a|b] {LONG}"):
        text = complete(encoder.encode(planner.plan(prompt, "n", 4, 7.0, 1)))
        assert text.prompts[0][0] is text.prompts[2][0]
        assert text.prompts[0][0] is not text.prompts[1][0]
        assert text.negative is not None
        assert len({id(each) for each in text.negative}) == 1


def test_a_call_takes_what_comes_next_too(
    encoder: PromptEncoder, planner: PromptPlanner, session: Recorder
) -> None:
    plans = [_plain(planner, f"prompt{i}") for i in range(CHUNKS_PER_CALL + 6)]
    for i, plan in enumerate(plans):
        complete(encoder.encode(plan, plans[i + 1 :]))
    assert session.batches == [CHUNKS_PER_CALL, 6]


def test_many_chunks_take_calls_of_bounded_size(
    encoder: PromptEncoder, planner: PromptPlanner, session: Recorder
) -> None:
    many = " BREAK ".join(f"chunk{i}" for i in range(CHUNKS_PER_CALL + 10))
    text = complete(encoder.encode(_plain(planner, many)))
    assert session.batches == [CHUNKS_PER_CALL, 10]
    (last,) = complete(encoder.encode(_plain(planner, f"chunk{CHUNKS_PER_CALL + 9}"))).prompts[0]
    np.testing.assert_array_equal(text.prompts[0][0][-77:], last)


def test_weights_and_clip_skip_are_not_confused_in_memory(
    encoder: PromptEncoder, planner: PromptPlanner, session: Recorder
) -> None:
    ((plain,),) = complete(encoder.encode(_plain(planner, "a b"))).prompts
    ((strong,),) = complete(encoder.encode(_plain(planner, "a (b)"))).prompts
    ((skipped,),) = complete(encoder.encode(_plain(planner, "a b", 2))).prompts
    assert session.batches == [1, 1, 1]
    assert not np.allclose(plain, strong)
    np.testing.assert_allclose(skipped, plain * 0.5)


def test_the_memory_is_bounded(
    encoder: PromptEncoder, planner: PromptPlanner, session: Recorder
) -> None:
    for i in range(257):
        complete(encoder.encode(_plain(planner, f"prompt{i}")))
    complete(encoder.encode(_plain(planner, "prompt256")))
    assert len(session.batches) == 257
    complete(encoder.encode(_plain(planner, "prompt0")))
    assert len(session.batches) == 258
