"""The training noise schedule against diffusers."""

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest

from engines.errors import BundleError
from runtime.noise_schedule import NoiseSchedule, read_noise_schedule
from tests.runtime.samplers.reference import SD15


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"beta_schedule": "linear"},
        {"num_train_timesteps": 333, "beta_start": 0.0001, "beta_end": 0.02},
    ],
)
def test_values_are_diffusers(change: dict[str, Any]) -> None:
    """To the bit; only the square root, which torch leaves to a vector library, to the last."""
    config = SD15 | change
    schedule = NoiseSchedule.from_config(config)
    scheduler = diffusers.DPMSolverMultistepScheduler.from_config(config)
    np.testing.assert_array_equal(schedule.alphas_cumprod, scheduler.alphas_cumprod.numpy())
    np.testing.assert_allclose(schedule.sigmas, scheduler.sigmas.numpy(), rtol=1.3e-7)


def test_what_a_configuration_leaves_out_is_diffusers_default() -> None:
    schedule = NoiseSchedule.from_config({})
    scheduler = diffusers.DDIMScheduler()
    np.testing.assert_array_equal(schedule.alphas_cumprod, scheduler.alphas_cumprod.numpy())
    assert schedule.steps_offset == scheduler.config.steps_offset
    assert schedule.timestep_spacing is None
    assert schedule.set_alpha_to_one is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prediction_type", "v_prediction"),
        ("beta_schedule", "squaredcos_cap_v2"),
        ("timestep_spacing", "random"),
        ("trained_betas", [0.1, 0.2]),
        ("rescale_betas_zero_snr", True),
        ("thresholding", True),
        ("num_train_timesteps", "1000"),
        ("num_train_timesteps", 1),
        ("steps_offset", True),
        ("beta_start", None),
        ("beta_end", 1.5),
    ],
)
def test_a_schedule_without_samplers_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(BundleError, match=name.split("_")[0]):
        NoiseSchedule.from_config(SD15 | {name: value})


def test_every_fault_is_named() -> None:
    with pytest.raises(BundleError, match=r"thresholding.*prediction_type"):
        NoiseSchedule.from_config({"prediction_type": "sample", "thresholding": True})


def test_reading_the_file(tmp_path: Path) -> None:
    path = tmp_path / "scheduler_config.json"
    path.write_text(json.dumps(SD15))
    assert read_noise_schedule(path) == NoiseSchedule.from_config(SD15)


@pytest.mark.parametrize("content", [None, "{", "[]", "\udcff"])
def test_an_unreadable_file(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "scheduler_config.json"
    if content is not None:
        path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(BundleError, match=r"scheduler_config\.json"):
        read_noise_schedule(path)
