"""The denoising loop on stand-in sessions: batches, guidance, runs that join and leave."""

import math

import numpy as np
import pytest

from engines.errors import BackendError, InternalError, SettingError
from runtime.arrays import Float64Array
from runtime.conditioning import Conditioning
from runtime.denoiser import Denoiser
from runtime.noise import TorchCpuNoise
from runtime.samplers.lookup import make_table
from runtime.samplers.table import Row, basis, table_from_rows
from runtime.slot import NonFinitePredictionError, Slot
from tests.runtime.fake_unet import (
    NOISE_SCHEDULE,
    WIDTH,
    FakeUnet,
    constant,
    embeddings,
    finish,
    predict,
    run_alone,
    slot,
)
from tests.runtime.samplers.reference import run_table


@pytest.mark.parametrize("guidance", [1.0, 0.0, 7.5])
@pytest.mark.parametrize("sampler", ["DPM++ 2M", "DDIM"])
def test_a_run_is_its_table_with_guidance(sampler: str, guidance: float) -> None:
    def guided(x: Float64Array, timestep: float) -> Float64Array:
        conditional = predict(x, timestep, embeddings(3))
        if guidance == 1:
            return conditional
        unconditional = predict(x, timestep, embeddings(103))
        return unconditional + guidance * (conditional - unconditional)

    table = make_table(sampler, "automatic", 9, NOISE_SCHEDULE)
    start = TorchCpuNoise(3).draw((4, 8, 8)).astype(np.float64)
    *_, wanted = run_table(table, start, guided, [])
    ours = run_alone(seed=3, sampler=sampler, steps=9, guidance=guidance)
    np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-4)


def test_a_picture_does_not_depend_on_its_company() -> None:
    """Runs of other samplers, sizes, lengths and guidance come and go beside it."""
    alone = run_alone(seed=1, steps=8)
    denoiser = Denoiser(FakeUnet(), max_batch=16)
    watched = slot(seed=1, steps=8)
    leaving = slot(seed=2, steps=20)
    denoiser.add(slot(seed=3, sampler="DDIM", steps=3))
    denoiser.advance()
    denoiser.add(watched)
    denoiser.add(leaving)
    denoiser.add(slot(seed=4, guidance=1, steps=5))
    denoiser.advance()
    denoiser.add(slot(seed=5, size=(8, 16), tokens=154))
    denoiser.advance()
    denoiser.remove(leaving)
    assert watched in finish(denoiser)
    np.testing.assert_array_equal(watched.latents, alone)
    assert leaving.row == 2


def test_one_call_takes_every_run_of_a_size() -> None:
    unet = FakeUnet()
    denoiser = Denoiser(unet, max_batch=8)
    for seed, guidance in enumerate((7.0, 1.0, 3.0)):
        denoiser.add(slot(seed=seed, guidance=guidance, steps=seed + 4))
    denoiser.advance()
    (call,) = unet.calls
    assert call["sample"].shape == (5, 4, 8, 8)
    assert call["encoder_hidden_states"].shape == (5, 77, WIDTH)
    np.testing.assert_array_equal(call["timestep"], np.full(5, 999))
    denoiser.advance()
    assert len(set(unet.calls[1]["timestep"])) == 3


def test_other_sizes_and_lengths_take_calls_of_their_own() -> None:
    unet = FakeUnet()
    denoiser = Denoiser(unet, max_batch=8)
    for run in (slot(), slot(size=(8, 16)), slot(tokens=154), slot()):
        denoiser.add(run)
    denoiser.advance()
    assert [call["sample"].shape[0] for call in unet.calls] == [4, 2, 2]


@pytest.mark.parametrize(("max_batch", "entries"), [(2, [2, 1, 2, 2]), (4, [3, 4]), (5, [5, 2])])
def test_a_call_never_takes_more_than_the_limit(max_batch: int, entries: list[int]) -> None:
    unet = FakeUnet()
    denoiser = Denoiser(unet, max_batch)
    runs = [slot(seed=seed, guidance=1 if seed == 1 else 7) for seed in range(4)]
    for run in runs:
        denoiser.add(run)
    denoiser.advance()
    assert [len(call["sample"]) for call in unet.calls] == entries
    finish(denoiser)
    np.testing.assert_array_equal(runs[3].latents, run_alone(seed=3))


def test_embeddings_are_fed_only_when_the_runs_change() -> None:
    unet = FakeUnet()
    denoiser = Denoiser(unet, max_batch=8)
    denoiser.add(slot(seed=0, steps=7))
    for _ in range(3):
        denoiser.advance()
    denoiser.add(slot(seed=1, steps=2))
    for _ in range(4):
        denoiser.advance()
    fed = ["encoder_hidden_states" in call for call in unet.calls]
    assert fed == [True, False, False, True, False, True, False]


def test_finished_runs_are_handed_out_once_and_leave() -> None:
    denoiser = Denoiser(FakeUnet(), max_batch=8)
    short, long = slot(steps=1), slot(steps=2)
    denoiser.add(short)
    denoiser.add(long)
    assert denoiser.advance() == [short]
    assert denoiser.slots == (long,)
    assert denoiser.advance() == [long]
    assert denoiser.advance() == []


def test_each_run_draws_from_its_own_stream() -> None:
    """Where the table says so, and only there."""
    x, prediction, noise = basis(history=0)
    rows = [
        Row(500, 0.5, (x + noise,), 0, (1, 1), draws_noise=True),
        Row(300, 1.0, (2 * x + 0 * prediction,), 1, (1, 1)),
        Row(100, 1.0, (x + 3 * noise,), 2, (1, 1), draws_noise=True),
    ]
    table = table_from_rows("a sampler", "normal", rows, 1.0)
    unet = FakeUnet()
    denoiser = Denoiser(unet, max_batch=8)
    for seed in (1, 2):
        denoiser.add(slot(seed=seed, table=table))
    for run, seed in zip(finish(denoiser), (1, 2), strict=True):
        stream = TorchCpuNoise(seed)
        start, first, second = (stream.draw((4, 8, 8)) for _ in range(3))
        np.testing.assert_allclose(run.latents, 2 * (start + first) + 3 * second, rtol=1e-5)
    np.testing.assert_allclose(unet.calls[0]["sample"][1], 0.5 * TorchCpuNoise(1).draw((4, 8, 8)))


@pytest.mark.parametrize("factor", [0.5, 0.0])
def test_churn_before_the_first_row_comes_from_the_stream(factor: float) -> None:
    """Noise that counts for nothing is drawn all the same, or the next would be another."""
    x, _, noise = basis(history=0)
    row = Row(500, 1.0, (x + 3 * noise,), 0, (1, 1), draws_noise=True)
    churned = table_from_rows("a sampler", "normal", [row], 1.0, first_noise=factor)
    stream = TorchCpuNoise(4)
    start, first, second = (stream.draw((4, 8, 8)) for _ in range(3))
    wanted = start + factor * first + 3 * second
    np.testing.assert_allclose(run_alone(seed=4, table=churned), wanted, rtol=1e-5, atol=1e-6)


def test_a_graph_in_float16_loses_only_its_own_precision() -> None:
    denoiser = Denoiser(FakeUnet("float16"), max_batch=2)
    denoiser.add(slot(seed=1))
    (finished,) = finish(denoiser)
    assert finished.latents.dtype == np.float32
    wanted = run_alone(seed=1)
    assert np.abs(finished.latents - wanted).max() < 0.02 * np.abs(wanted).max()


def test_a_prediction_that_is_no_number_ends_that_run_only() -> None:
    unet = FakeUnet()
    denoiser = Denoiser(unet, max_batch=8)
    bad, good = slot(seed=0, steps=5), slot(seed=1, sampler="DDIM", steps=5)
    denoiser.add(bad)
    denoiser.add(good)
    denoiser.advance()
    unet.poisoned = float(bad.table.timesteps[1])
    with pytest.raises(NonFinitePredictionError, match="row 2 of 5") as caught:
        denoiser.advance()
    assert isinstance(caught.value, BackendError)
    assert caught.value.slot is bad
    assert good.row == 1
    denoiser.remove(bad)
    finish(denoiser)
    np.testing.assert_array_equal(good.latents, run_alone(seed=1, sampler="DDIM", steps=5))


@pytest.mark.parametrize("guidance", [1.0, 7.0])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_every_kind_of_no_number_is_seen(value: float, guidance: float) -> None:
    run = slot(guidance=guidance)
    predicted = np.zeros((run.entries, 4, 8, 8), np.float32)
    predicted[:, 3, 7, 7] = value
    with pytest.raises(NonFinitePredictionError):
        run.read_prediction(predicted)


def test_embeddings_that_do_not_fit() -> None:
    table, noise = make_table("DDIM", "normal", 5, NOISE_SCHEDULE), TorchCpuNoise(0)
    latents = noise.draw((4, 8, 8))

    def start(text: Conditioning, guidance: float = 7.0) -> Slot:
        return Slot(table, latents, text, guidance, noise)

    assert start(constant(table, [embeddings(0)], None), guidance=1).entries == 1
    with pytest.raises(InternalError, match="154"):
        start(constant(table, [embeddings(0)], embeddings(1, 154)))
    with pytest.raises(InternalError, match="154"):
        start(constant(table, [embeddings(0), embeddings(1, 154)], embeddings(2)))
    with pytest.raises(InternalError, match="without embeddings of a negative"):
        start(constant(table, [embeddings(0)], None))
    with pytest.raises(InternalError, match="4 rows of a table that has 5"):
        start(Conditioning((1.0,), [(embeddings(0),)] * 4, [embeddings(1)] * 4))


@pytest.mark.parametrize(
    ("guidance", "weights", "entries"),
    [
        (7.0, (1.0, 1.0), 3),
        (4.0, (0.7, -0.2, 1.3), 4),
        (2.0, (1.1,), 2),
        (1.0, (1.0, 0.5), 3),
        (1.0, (0.7, 0.3), 2),
        (2.0, (0.5,), 1),
        (2.5, (0.4,), 1),
    ],
)
def test_prompts_that_AND_joins_add_up(  # noqa: N802
    guidance: float, weights: tuple[float, ...], entries: int
) -> None:
    """Against the sum in float64; u takes no entry where its factors cancel out."""
    table, noise = make_table("DDIM", "normal", 1, NOISE_SCHEDULE), TorchCpuNoise(0)
    texts = [embeddings(i) for i in range(len(weights))]
    run = Slot(
        table,
        noise.draw((4, 8, 8)),
        constant(table, texts, embeddings(9), *weights),
        guidance,
        noise,
    )
    assert run.entries == entries
    x = run.latents.copy()
    u, *prompts = (
        predict(x, table.timesteps[0], text).astype(np.float64) for text in (embeddings(9), *texts)
    )
    wanted = u + sum(guidance * w * (c - u) for w, c in zip(weights, prompts, strict=True))
    denoiser = Denoiser(FakeUnet(), max_batch=8)
    denoiser.add(run)
    denoiser.advance()
    *_, end = run_table(table, x.astype(np.float64), lambda x, t: wanted, [])
    np.testing.assert_allclose(run.latents, end, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("max_batch", [2, 3, 6])
def test_a_run_of_more_prompts_than_a_call_takes(max_batch: int) -> None:
    """Five prompts take six entries: several calls for them, and the others are not disturbed."""

    def start() -> Slot:
        table, noise = make_table("DPM++ 2M", "automatic", 4, NOISE_SCHEDULE), TorchCpuNoise(5)
        text = constant(table, [embeddings(i) for i in range(5)], embeddings(9))
        return Slot(table, noise.draw((4, 8, 8)), text, 3.0, noise)

    unet = FakeUnet()
    denoiser = Denoiser(unet, max_batch)
    wide = start()
    for run in (slot(seed=1, steps=4), wide):
        denoiser.add(run)
    first, _ = finish(denoiser)
    assert max(len(call["sample"]) for call in unet.calls) <= max_batch
    alone = Denoiser(FakeUnet(), 6)
    alone.add(start())
    np.testing.assert_array_equal(wide.latents, finish(alone)[0].latents)
    np.testing.assert_array_equal(first.latents, run_alone(seed=1, steps=4))


def test_texts_that_change_are_fed_when_they_change() -> None:
    """Rows 0 and 1 see one prompt, 2 and 3 another, and each row is steered by its own."""
    table, noise = make_table("DDIM", "normal", 4, NOISE_SCHEDULE), TorchCpuNoise(0)
    early, late, negative = embeddings(1), embeddings(2), embeddings(3)
    text = Conditioning((1.0,), [(early,), (early,), (late,), (late,)], [negative] * 4)
    start = noise.draw((4, 8, 8))
    unet = FakeUnet()
    denoiser = Denoiser(unet, max_batch=4)
    denoiser.add(Slot(table, start, text, 5.0, noise))
    (finished,) = finish(denoiser)
    assert ["encoder_hidden_states" in call for call in unet.calls] == [True, False, True, False]

    by_timestep = dict(zip(table.timesteps, (early, early, late, late), strict=True))

    def guided(x: Float64Array, timestep: float) -> Float64Array:
        u = predict(x, timestep, negative)
        result: Float64Array = u + 5 * (predict(x, timestep, by_timestep[timestep]) - u)
        return result

    *_, wanted = run_table(table, start.astype(np.float64), guided, [])
    np.testing.assert_allclose(finished.latents, wanted, rtol=1e-4, atol=1e-4)


def test_a_batch_without_room_for_guidance() -> None:
    with pytest.raises(SettingError, match="batch of 1"):
        Denoiser(FakeUnet(), max_batch=1)


def test_after_an_engines_error_every_run_goes_on_from_its_own_row() -> None:
    """The first of two calls has finished its run when the second call fails."""
    unet = FakeUnet()
    denoiser = Denoiser(unet, max_batch=8)
    short, long = slot(seed=0, steps=1), slot(seed=1, sampler="DDIM", steps=3, size=(8, 16))
    denoiser.add(short)
    denoiser.add(long)
    unet.poisoned = float(long.table.timesteps[0])
    with pytest.raises(NonFinitePredictionError):
        denoiser.advance()
    assert denoiser.calling == (long,)
    assert (short.finished, long.row) == (True, 0)
    unet.poisoned = None
    assert denoiser.advance() == [short]
    (finished,) = finish(denoiser)
    assert finished is long
    np.testing.assert_array_equal(
        long.latents, run_alone(seed=1, sampler="DDIM", steps=3, size=(8, 16))
    )


def test_calls_become_smaller_between_rows() -> None:
    unet = FakeUnet()
    denoiser = Denoiser(unet, max_batch=4)
    for seed in (0, 1):
        denoiser.add(slot(seed=seed))
    denoiser.advance()
    denoiser.resize(2)
    finish(denoiser)
    assert [len(call["sample"]) for call in unet.calls] == [4] + [2, 2] * 5
