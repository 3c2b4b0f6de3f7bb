"""The pipeline on stand-ins: what is shared between pictures, and what must not be."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines import layout
from engines.backend import Choice
from engines.bundle import Bundle
from engines.errors import BackendError, BundleError, SettingError
from runtime.guidance import GuidanceSettings
from runtime.hires import HiresSettings
from runtime.pipeline import Pipeline
from runtime.png import Picture
from runtime.request import Request
from runtime.samplers.stochasticity import Stochasticity
from runtime.seeds import NoiseSettings
from tests.runtime.stand_ins import StandInBackend, open_stand_in, write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_stand_in(tmp_path_factory.mktemp("bundle"))


def _make(
    bundle: Bundle, *requests: Request, max_batch: int = 4
) -> tuple[list[Picture], StandInBackend, list[tuple[int, int]]]:
    backend = StandInBackend()
    steps: list[tuple[int, int]] = []
    with Pipeline(bundle, Choice(backend, "asked for"), max_batch) as pipeline:
        settings = pipeline.settle(requests)
        pictures = list(
            pipeline.generate(settings, lambda step: steps.append((step.done, step.total)))
        )
    assert all(session.closed for session in backend.sessions.values())
    return sorted(pictures, key=lambda picture: picture.settings.seed), backend, steps


def test_one_picture(bundle: Bundle) -> None:
    (picture,), backend, steps = _make(bundle, Request("a cat", seed=3, width=128))
    assert picture.pixels.shape == (64, 128, 3)
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.std() > 10
    assert picture.settings.seed == 3
    assert (picture.origin.bundle, picture.origin.backend) == ("stand-in", "stand-in")
    assert steps == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert backend.sessions[layout.UNET].batches == [2] * 4
    assert layout.VAE_ENCODER not in backend.sessions


BASE = Request("a cat", negative="dog", seed=3)


@pytest.mark.parametrize(
    "other",
    [
        Request("a dog", negative="dog", seed=3),
        Request("a (cat:1.3)", negative="dog", seed=3),
        Request("a cat", negative="cow", seed=3),
        Request("a cat", negative="dog", seed=4),
        Request("a cat", negative="dog", seed=3, steps=5),
        Request("a cat", negative="dog", seed=3, cfg=5),
        Request("a cat", negative="dog", seed=3, sampler="DDIM"),
        Request("a cat", negative="dog", seed=3, schedule="exponential"),
        Request("a cat", negative="dog", seed=3, clip_skip=2),
        Request("a cat", negative="dog", seed=3, preset="cracked"),
        Request("a cat", negative="dog", seed=3, guidance=GuidanceSettings(rescale=0.7)),
        Request("a cat", negative="dog", seed=3, guidance=GuidanceSettings(start=0.2)),
        Request("a cat", negative="dog", seed=3, guidance=GuidanceSettings(end=0.6)),
        Request("a cat", negative="dog", seed=3, noise=NoiseSettings(source="nv")),
        Request("a cat", negative="dog", seed=3, noise=NoiseSettings("cpu", 1, 0.2)),
        Request(
            "a cat", negative="dog", seed=3, noise=NoiseSettings(from_width=72, from_height=64)
        ),
    ],
)
def test_every_setting_changes_the_picture(bundle: Bundle, other: Request) -> None:
    (one,), *_ = _make(bundle, BASE)
    (again,), *_ = _make(bundle, BASE)
    (changed,), *_ = _make(bundle, other)
    np.testing.assert_array_equal(one.pixels, again.pixels)
    assert not np.array_equal(one.pixels, changed.pixels)


def test_company_does_not_change_a_picture(bundle: Bundle) -> None:
    requests = [
        Request("a cat", seed=3, count=2),
        Request("one " * 90, seed=10, steps=7, cfg=1),
        Request("a dog", seed=20, sampler="DDIM", steps=2),
        Request("a cow", seed=30, width=128, height=192),
    ]
    together, backend, steps = _make(bundle, *requests, max_batch=5)
    alone = [
        picture
        for request in requests
        for seed in range(request.count)
        for picture in _make(bundle, request)[0][seed : seed + 1]
    ]
    assert [picture.settings for picture in together] == [picture.settings for picture in alone]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
    assert max(backend.sessions[layout.UNET].batches) > 2
    total = 4 + 4 + 7 + 2 + 4
    assert steps[0] == (0, total)
    assert steps[-1] == (total, total)
    assert steps == sorted(steps)


def test_pictures_share_calls_up_to_the_largest_batch(bundle: Bundle) -> None:
    request = Request("a cat", seed=0, count=5)
    for max_batch, calls in ((2, 20), (3, 20), (4, 12), (8, 8), (10, 4)):
        _, backend, _ = _make(bundle, request, max_batch=max_batch)
        batches = backend.sessions[layout.UNET].batches
        assert len(batches) == calls
        assert max(batches) <= max_batch


def test_guidance_1_takes_no_negative_half(bundle: Bundle) -> None:
    _, backend, _ = _make(bundle, Request("a cat", cfg=1))
    assert backend.sessions[layout.UNET].batches == [1] * 4
    assert backend.sessions[layout.TEXT_ENCODER].batches == [1]


def test_rows_without_guidance_take_no_negative_half(bundle: Bundle) -> None:
    guidance = GuidanceSettings(start=0.25, end=0.75)
    _, backend, _ = _make(bundle, Request("a cat", guidance=guidance))
    assert backend.sessions[layout.UNET].batches == [1, 1, 2, 1]


def test_what_a_sampler_brings_in_changes_the_picture(bundle: Bundle) -> None:
    pictures = [
        _make(bundle, Request("a cat", seed=3, sampler=sampler, stochasticity=chosen))[0][0]
        for sampler, chosen in (
            ("DDIM", Stochasticity()),
            ("DDIM", Stochasticity(eta=1.0)),
            ("Euler", Stochasticity()),
            ("Euler", Stochasticity(s_churn=2.0)),
            ("Euler", Stochasticity(s_churn=2.0, s_noise=1.5)),
        )
    ]
    assert len({picture.pixels.tobytes() for picture in pictures}) == len(pictures)


def test_all_texts_of_all_pictures_share_one_call(bundle: Bundle) -> None:
    requests = [Request(f"[a{i}|b{i}] c", seed=i) for i in range(5)]
    requests.append(Request("d AND e", negative="[f::2]", seed=9, count=2))
    _, backend, _ = _make(bundle, *requests)
    assert backend.sessions[layout.TEXT_ENCODER].batches == [5 * 2 + 1 + 2 + 2]


def test_more_prompts_than_a_call_takes(bundle: Bundle) -> None:
    request = Request("a AND b AND c AND d", seed=1)
    (picture,), backend, _ = _make(bundle, request, max_batch=2)
    assert set(backend.sessions[layout.UNET].batches) == {2, 1}
    (whole,), *_ = _make(bundle, request, max_batch=5)
    np.testing.assert_array_equal(picture.pixels, whole.pixels)


def test_pictures_come_as_soon_as_they_are_finished(bundle: Bundle) -> None:
    with Pipeline(bundle, Choice(StandInBackend(), ""), 2) as pipeline:
        settings = pipeline.settle([Request("a", seed=1, count=3)])
        steps: list[int] = []
        pictures = pipeline.generate(settings, lambda step: steps.append(step.done))
        assert next(pictures).settings.seed == 1
        assert steps[-1] == 4
        pictures.close()  # type: ignore[attr-defined]
        (other,) = pipeline.generate(pipeline.settle([Request("b", seed=9)]))
        (alone,), *_ = _make(bundle, Request("b", seed=9))
        np.testing.assert_array_equal(other.pixels, alone.pixels)


def test_graphs_are_loaded_once_and_late(bundle: Bundle) -> None:
    backend = StandInBackend()
    with Pipeline(bundle, Choice(backend, "")) as pipeline:
        assert not backend.sessions
        with pytest.raises(SettingError):
            pipeline.settle([Request("a", steps=0)])
        (settings,) = pipeline.settle([Request("a", sampler="LCM")])
        too_many = dataclasses.replace(settings, steps=1000)
        with pytest.raises(SettingError, match="1000 steps"):
            list(pipeline.generate(too_many))
        assert not backend.sessions, "what is refused loads nothing"
        for _ in range(2):
            list(pipeline.generate(pipeline.settle([Request("a")])))
        assert len(backend.sessions) == 3


def test_a_failed_run_leaves_no_slot_behind(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = StandInBackend()
    with Pipeline(bundle, Choice(backend, "")) as pipeline:
        list(pipeline.generate(pipeline.settle([Request("a")])))
        unet = backend.sessions[layout.UNET]
        with monkeypatch.context() as patch:
            patch.setattr(
                unet, "_predict", lambda sample, **_: {layout.OUT_SAMPLE: sample * np.nan}
            )
            with pytest.raises(BackendError, match="not finite"):
                list(pipeline.generate(pipeline.settle([Request("a", count=2)])))
        unet.batches.clear()
        list(pipeline.generate(pipeline.settle([Request("a")])))
        assert unet.batches == [2] * 4


def test_a_backend_that_does_not_exist_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="No backend 'abacus'; choose one of auto"):
        Pipeline.open(bundle.path, "abacus")


def test_a_bundle_may_be_named_by_a_text(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    with pytest.raises(BundleError, match="There is no bundle at"):
        Pipeline.open(str(tmp_path / "nothing"))
    with Pipeline.open(str(tmp_path / "bundle"), "cpu") as pipeline:
        assert pipeline.bundle.path == tmp_path / "bundle"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"width": 100}, "width 100 is not a multiple of 8"),
        ({"height": 0}, "height 0 is not possible"),
        ({"width": None}, "width takes a whole number, not None"),
        ({"clip_skip": 5}, "clip skip 5 is not possible"),
        ({"cfg": -5.0}, "guidance scale -5 is not possible"),
        ({"vae_tiling": "foo"}, "no VAE tiling 'foo'"),
        ({"sampler": "Euler z"}, "No sampler 'Euler z'"),
        ({"noise": NoiseSettings("dice")}, "no noise 'dice'"),
        ({"guidance": GuidanceSettings(rescale=2.0)}, "guidance rescale 2"),
        ({"stochasticity": Stochasticity(eta=0.5)}, "DPM++ 2M takes no eta"),
        ({"hires": HiresSettings()}, "hires width 0 is not possible"),
        ({"prompt": "[a|b:0.5]"}, "neither prompt editing"),
    ],
    ids=str,
)
def test_settings_that_were_changed_are_checked(
    bundle: Bundle, changed: dict[str, Any], message: str
) -> None:
    backend = StandInBackend()
    with Pipeline(bundle, Choice(backend, "asked for")) as pipeline:
        (settings,) = pipeline.settle([Request("a cat", seed=3)])
        with pytest.raises(SettingError, match=re.escape(message)):
            pipeline.generate([settings, dataclasses.replace(settings, **changed)])
    assert not backend.sessions


def test_numbers_of_numpys_make_a_picture(bundle: Bundle) -> None:
    seed: Any = np.random.default_rng(0).integers(2**32)
    steps: Any = np.int64(3)
    with Pipeline(bundle, Choice(StandInBackend(), "asked for")) as pipeline:
        (one,) = pipeline.generate(Request("a cat", seed=seed, steps=steps))
        (settings,) = pipeline.settle([Request("a cat", seed=int(seed), steps=3)])
        (other,) = pipeline.generate(dataclasses.replace(settings, seed=seed, steps=steps))
        (same,) = pipeline.generate(settings)
    assert same.settings is settings
    assert one.png() == other.png() == same.png()


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [("portrait", "'portrait'"), (None, "None"), ([3], "3"), ({"prompt": "a cat"}, "'prompt'")],
    ids=str,
)
def test_what_is_no_request_is_refused(bundle: Bundle, wanted: Any, shown: str) -> None:
    with Pipeline(bundle, Choice(StandInBackend(), "asked for")) as pipeline:
        refused = f"generate takes Requests or Settings, one or several, not {shown}."
        with pytest.raises(SettingError, match=f"^{re.escape(refused)}$"):
            pipeline.generate(wanted)
        refused = f"settle takes a list of Requests, not {shown}."
        with pytest.raises(SettingError, match=f"^{re.escape(refused)}$"):
            pipeline.settle(wanted)


def test_settle_takes_several_requests(bundle: Bundle) -> None:
    one: Any = Request("a cat")
    with Pipeline(bundle, Choice(StandInBackend(), "asked for")) as pipeline:
        settings: Any = pipeline.settle(iter([one]))  # type: ignore[arg-type]
        with pytest.raises(SettingError, match=r"a list of Requests, not Request\("):
            pipeline.settle(one)
        with pytest.raises(SettingError, match=r"a list of Requests, not Settings\("):
            pipeline.settle(settings)


@pytest.mark.parametrize("most", ["4", float("nan"), 2.5, True])
def test_a_largest_batch_that_is_no_number(bundle: Bundle, most: Any) -> None:
    with pytest.raises(SettingError, match=rf"max_batch takes a whole number, not {most!r}"):
        Pipeline(bundle, Choice(StandInBackend(), "asked for"), most)


def test_steps_that_a_sampler_cannot_take_are_refused_at_once(bundle: Bundle) -> None:
    """In either pass, before anything is loaded or asked for."""
    many = Request("a cat", sampler="DPM++ 2M", schedule="model", steps=999)
    second = dataclasses.replace(many, steps=4, hires=HiresSettings(steps=999, strength=1.0))
    with Pipeline(bundle, Choice(StandInBackend(), "asked for")) as pipeline:
        for wanted in (many, second):
            with pytest.raises(SettingError, match="cannot take 999 steps"):
                pipeline.settle([wanted])
        (settings,) = pipeline.settle([dataclasses.replace(second, hires=HiresSettings(steps=9))])
        assert settings.hires is not None
        hires = dataclasses.replace(settings.hires, steps=999, strength=1.0)
        with pytest.raises(SettingError, match="cannot take 999 steps"):
            pipeline.generate(dataclasses.replace(settings, hires=hires))
