"""Guidance by row, and its rescaling against diffusers."""

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from runtime.arrays import Float64Array
from runtime.conditioning import Conditioning
from runtime.denoiser import Denoiser
from runtime.guidance import Guidance, GuidanceSettings, guidance_faults, guidance_of, rescale
from runtime.noise import TorchCpuNoise
from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.lookup import make_table
from runtime.samplers.table import Table
from runtime.slot import Slot
from tests.runtime.fake_unet import FakeUnet, embeddings, finish, predict, run_alone, slot
from tests.runtime.samplers.reference import SD15, run_table

NOISE_SCHEDULE = NoiseSchedule.from_config(SD15)
SHAPE = (4, 8, 8)


@pytest.mark.parametrize("amount", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("guidance", [1.5, 9.0])
def test_a_rescaled_prediction_is_diffusers_own(amount: float, guidance: float) -> None:
    unconditional, conditional = np.random.default_rng(2).normal(0.1, 1, (2, *SHAPE))
    conditional = conditional * 1.7
    text = np.zeros((77, 8), np.float32)
    table = make_table("DDIM", "model", 2, NOISE_SCHEDULE)
    run = Slot(
        table,
        np.zeros(SHAPE, np.float32),
        Conditioning((1.0,), [(text,)] * 2, [text] * 2),
        Guidance((guidance,) * 2, amount),
        TorchCpuNoise(0),
    )
    run.read_prediction(np.stack([unconditional, conditional]).astype(np.float32))
    run.advance()

    u, c = torch.from_numpy(unconditional), torch.from_numpy(conditional)
    wanted = rescale_noise_cfg((u + guidance * (c - u))[None], c[None], amount)[0].numpy()
    ours = run.latents / table.coefficients[0, 0, 1]
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=2e-5)


def test_rescaling_leaves_what_has_no_contrast() -> None:
    flat = np.full(SHAPE, 2, np.float32)
    rescale(flat, np.ones(SHAPE, np.float32), 0.7, np.empty(SHAPE, np.float32))
    assert (flat == 2).all()


@pytest.mark.parametrize(
    ("settings", "guided"),
    [
        (GuidanceSettings(), range(10)),
        (GuidanceSettings(start=0.2), range(3, 10)),
        (GuidanceSettings(start=0.25), range(3, 10)),
        (GuidanceSettings(end=0.5), range(5)),
        (GuidanceSettings(start=0.1, end=0.3), range(2, 3)),
    ],
)
def test_an_interval_of_a_runs_steps(settings: GuidanceSettings, guided: range) -> None:
    """With `start`, the webui's steps: it skips step i while i / steps is not above it."""
    table = make_table("Euler", "normal", 10, NOISE_SCHEDULE)
    scales = guidance_of(6.0, settings, table).scales
    assert scales == tuple(6.0 if step in guided else 1.0 for step in range(10))


def test_an_interval_holds_for_whole_steps_and_for_what_a_late_run_has_of_them() -> None:
    table = make_table("Heun", "karras", 10, NOISE_SCHEDULE, first_step=6)
    scales = guidance_of(6.0, GuidanceSettings(end=0.5), table).scales
    assert scales == (6.0,) * 4 + (1.0,) * 3


def joined(table: Table, guidance: Guidance) -> Slot:
    """A run of two prompts that count 3/4 and -1/2: at guidance 4 u has no part, at 1 it has."""
    prompts = (embeddings(0), embeddings(1))
    text = Conditioning((0.75, -0.5), [prompts] * table.rows, [embeddings(2)] * table.rows)
    return Slot(table, np.zeros(SHAPE, np.float32), text, guidance, TorchCpuNoise(3))


def test_the_negative_prompt_costs_time_only_in_steps_where_it_has_a_part() -> None:
    table = make_table("DDIM", "model", 3, NOISE_SCHEDULE)
    unet = FakeUnet()
    denoiser = Denoiser(unet, max_batch=4)
    denoiser.add(joined(table, Guidance((1.0, 4.0, 4.0))))
    finish(denoiser)
    assert [len(call["sample"]) for call in unet.calls] == [3, 2, 2]


def test_rescaling_where_the_negative_prompt_has_a_part_in_the_prompts_own_prediction() -> None:
    table = make_table("DDIM", "model", 2, NOISE_SCHEDULE)
    run = joined(table, Guidance((4.0, 4.0), 0.9))
    u, c, d = np.random.default_rng(2).normal(0.1, 1, (3, *SHAPE))
    run.read_prediction(np.stack([u, c, d]).astype(np.float32))
    run.advance()
    steered = 0.75 * (c - u) - 0.5 * (d - u)
    guided, text = (torch.from_numpy(u + scale * steered)[None] for scale in (4, 1))
    wanted = rescale_noise_cfg(guided, text, 0.9)[0].numpy()
    np.testing.assert_allclose(run.latents / table.coefficients[0, 0, 1], wanted, atol=2e-5)


@pytest.mark.parametrize(
    "settings",
    [
        GuidanceSettings(rescale=1.1),
        GuidanceSettings(rescale=float("nan")),
        GuidanceSettings(start=-0.1),
        GuidanceSettings(start=0.5, end=0.5),
        GuidanceSettings(end=1.5),
        GuidanceSettings(start=float("nan")),
    ],
)
def test_what_is_not_possible(settings: GuidanceSettings) -> None:
    (fault,) = guidance_faults(settings)
    assert "not possible" in fault
    assert not guidance_faults(GuidanceSettings(0.7, 0.1, 0.9))


def test_guidance_may_change_by_row_and_halves_the_rows_without_it() -> None:
    """Beside a run that is guided throughout, in one call with it."""
    scales = (1.0, 1.0, 7.0, 3.0, 3.0, 1.0)
    remaining = iter(scales)

    def guided(x: Float64Array, timestep: float) -> Float64Array:
        conditional = predict(x, timestep, embeddings(3))
        unconditional = predict(x, timestep, embeddings(103))
        return unconditional + next(remaining) * (conditional - unconditional)

    unet = FakeUnet()
    denoiser = Denoiser(unet, max_batch=8)
    watched, other = slot(seed=3, guidance=Guidance(scales)), slot(seed=1)
    denoiser.add(watched)
    denoiser.add(other)
    finish(denoiser)
    assert [len(call["sample"]) for call in unet.calls] == [3, 3, 4, 4, 4, 3]
    assert watched.most_entries == 2
    start = TorchCpuNoise(3).draw((4, 8, 8)).astype(np.float64)
    *_, wanted = run_table(watched.table, start, guided, [])
    np.testing.assert_allclose(watched.latents, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(other.latents, run_alone(seed=1))
