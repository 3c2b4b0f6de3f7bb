"""Requests from pictures: our record exactly, the webui's text as far as it goes."""

import dataclasses
import logging
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engines.errors import InputError
from runtime.again import Recorded, UnnamedInit, recorded_in, request_of, warn_of_differences
from runtime.guidance import GuidanceSettings
from runtime.hires import HiresSettings
from runtime.metadata import Origin, format_parameters
from runtime.png import Picture
from runtime.request import Request, settle
from runtime.samplers.stochasticity import Stochasticity
from runtime.seeds import NoiseSettings
from tests.runtime.examples import ORIGIN, SETTINGS, SMOOTH
from tests.runtime.stand_ins import MANIFEST

ELABORATE = Request(
    "a (cat:1.2)\nin a hat, ",
    negative="dog",
    preset="glowing",
    seed=2**63,
    steps=7,
    cfg=3.3,
    sampler="euler",
    schedule="ays",
    width=128,
    height=72,
    clip_skip=2,
    noise=NoiseSettings("nv", 5, 0.3, 64, 64, 31337),
    guidance=GuidanceSettings(0.5, 0.1, 0.9),
    stochasticity=Stochasticity(None, 2.0, 0.1, 5.0, 1.01),
)


@pytest.mark.parametrize(
    "request_",
    [
        Request("a cat", seed=1),
        Request("", negative="", seed=0, cfg=1),
        ELABORATE,
        Request("a cat", seed=1, hires=HiresSettings(1.5, steps=3), vae_tiling="on"),
        Request("a cat", seed=1, hires=HiresSettings(width=128, height=72, upscaler="lanczos")),
    ],
)
def test_settings_follow_from_their_own_request(request_: Request) -> None:
    """Whatever the bundle's defaults: its negative prompt and preset must not come again."""
    (settings,) = settle(request_, MANIFEST)
    other = dataclasses.replace(
        MANIFEST,
        defaults=dataclasses.replace(MANIFEST.defaults, preset="cracked", negative="other"),
    )
    assert settle(request_of(settings), other) == (settings,)


def test_every_setting_is_asked_for_again() -> None:
    ours = {field.name for field in dataclasses.fields(type(SETTINGS))}
    assert ours <= {field.name for field in dataclasses.fields(Request)}


def test_a_record_is_taken_before_the_webuis_text(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(Picture(SMOOTH, SETTINGS, ORIGIN).png())
    assert recorded_in(file) == Recorded(request_of(SETTINGS), ORIGIN)


def with_text(path: Path, text: str) -> Path:
    info = PngInfo()
    info.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(path, "PNG", pnginfo=info)
    return path


def test_a_picture_of_the_webuis(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = with_text(
        tmp_path / "a.png",
        "a cat\nNegative prompt: dog\nSteps: 30, Sampler: Euler a, Schedule type: Automatic, "
        "CFG scale: 5.5, Seed: 17, Size: 512x768, Model hash: cc6cb27103, Model: v1-5, "
        "Variation seed: 3, Variation seed strength: 0.2, Seed resize from: 256x256, "
        "Denoising strength: 0.5, Clip skip: 2, ENSD: 31337, Eta: 0.5, Skip Early CFG: 0.1, "
        "Sigma noise: 1.01, Face restoration: GFPGAN, Version: v1.10.1",
    )
    recorded = recorded_in(file)
    assert recorded.origin is None
    assert recorded.init == UnnamedInit(0.5, {})
    assert recorded.request == Request(
        "a cat",
        "dog",
        "none",
        17,
        30,
        5.5,
        "Euler a",
        "Automatic",
        512,
        768,
        2,
        noise=NoiseSettings("nv", 3, 0.2, 256, 256, 31337),
        guidance=GuidanceSettings(start=0.1),
        stochasticity=Stochasticity(eta=0.5, s_noise=1.01),
    )
    (record,) = caplog.records
    assert record.message.endswith("nothing like it here: Face restoration: GFPGAN")
    assert settle(recorded.request, MANIFEST)[0].schedule == "normal"


@pytest.mark.parametrize(
    ("fields", "sampler", "schedule", "source"),
    [
        ("Sampler: DPM++ 2M Karras, RNG: CPU", "DPM++ 2M", "karras", "cpu"),
        ("Sampler: DPM++ 2M, Schedule type: SGM Uniform", "DPM++ 2M", "sgm uniform", "nv"),
        ("Sampler: UniPC, RNG: NV", "UniPC", "model", "nv"),
    ],
)
def test_samplers_of_old_and_new_texts(
    fields: str, sampler: str, schedule: str, source: str, tmp_path: Path
) -> None:
    file = with_text(tmp_path / "a.png", f"a cat\nSteps: 9, {fields}, CFG scale: 7, Seed: 1")
    (settings,) = settle(recorded_in(file).request, MANIFEST)
    assert (settings.sampler, settings.schedule) == (sampler, schedule)
    assert settings.noise.source == source


@pytest.mark.parametrize(
    ("fields", "stochasticity"),
    [
        ("Sigma tmin: 0.1", Stochasticity()),
        ("Sigma tmin: 0.1, Sigma tmax: 5, Sigma noise: 1.01", Stochasticity(s_noise=1.01)),
        ("Sigma churn: 2, Sigma tmin: 0.1", Stochasticity(s_churn=2.0, s_tmin=0.1)),
    ],
)
def test_limits_of_no_churn_have_no_effect(
    fields: str, stochasticity: Stochasticity, tmp_path: Path
) -> None:
    file = with_text(tmp_path / "a.png", f"a\nSteps: 9, Sampler: Euler, Seed: 1, {fields}")
    (settings,) = settle(recorded_in(file).request, MANIFEST)
    assert settings.stochasticity == stochasticity


@pytest.mark.parametrize("schedule", ["model", "leading", "linspace", "trailing"])
@pytest.mark.parametrize("sampler", ["DPM++ 2M", "Euler a", "DDIM", "UniPC"])
def test_the_webuis_text_names_spacings(sampler: str, schedule: str, tmp_path: Path) -> None:
    """As "Automatic" only where the sampler means it by itself."""
    request = Request("a cat", seed=1, sampler=sampler, schedule=schedule)
    (settings,) = settle(request, MANIFEST)
    text = format_parameters(settings, ORIGIN)
    by_itself = schedule == "model" and sampler in ("DDIM", "UniPC")
    assert f"Schedule type: {'Automatic' if by_itself else schedule}, " in text
    assert settle(recorded_in(with_text(tmp_path / "a.png", text)).request, MANIFEST) == (settings,)


def test_what_we_write_of_it_we_read(tmp_path: Path) -> None:
    """The webui's text of a picture asks for the same, but for decimals that it has not."""
    (settings,) = settle(ELABORATE, MANIFEST)
    file = with_text(tmp_path / "a.png", format_parameters(settings, ORIGIN))
    assert settle(recorded_in(file).request, MANIFEST) == (settings,)


@pytest.mark.parametrize(
    ("fields", "mask"),
    [
        ("Mask blur: 8", {"blur": 8.0}),
        (
            "Mask mode: Inpaint not masked, Masked content: latent noise, "
            "Inpaint area: Only masked, Masked area padding: 16",
            {
                "blur": 0.0,
                "invert": True,
                "content": "latent noise",
                "only_masked": True,
                "padding": 16,
            },
        ),
    ],
)
def test_a_mask_of_the_webuis(fields: str, mask: dict[str, object], tmp_path: Path) -> None:
    """A blur of 0 is the only one that it leaves out."""
    text = f"a cat\nSteps: 4, Seed: 1, Denoising strength: 0.75, {fields}"
    assert recorded_in(with_text(tmp_path / "a.png", text)).init == UnnamedInit(0.75, mask)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("just a caption", "its text names no steps"),
        ("a\nSteps: many, Seed: 1", "its Steps 'many' cannot be read"),
        ("a\nSteps: 2, Size: 512", "its Size '512' cannot be read"),
    ],
)
def test_texts_that_say_nothing(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        recorded_in(with_text(tmp_path / "a.png", text))
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"b\.png does not say how it was made"):
        recorded_in(tmp_path / "b.png")


def test_another_bundle_or_backend_is_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    here = Origin("glow", "f" * 64, "openvino")
    warn_of_differences(Path("a.png"), ORIGIN, ORIGIN)
    assert not caplog.records
    warn_of_differences(Path("a.png"), ORIGIN, here)
    warn_of_differences(Path("a.png"), ORIGIN, dataclasses.replace(ORIGIN, backend="cuda"))
    bundle, backend = (record.message for record in caplog.records)
    assert "bundle cracked-skin (0123456789), this is glow (ffffffffff)" in bundle
    assert "backend cpu, this is cuda: the picture will differ by rounding" in backend


def test_hires_fix_of_the_webuis(tmp_path: Path) -> None:
    """Its strength has the name of img2img's, and a side of 0 follows from the other."""
    text = "a cat\nSteps: 4, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x96, {}"
    file = with_text(
        tmp_path / "a.png",
        text.format("Denoising strength: 0.4, Hires resize: 128x0, Hires upscaler: Lanczos"),
    )
    recorded = recorded_in(file)
    assert recorded.init is None
    assert recorded.request.hires == HiresSettings(width=128, upscaler="Lanczos", strength=0.4)
    (settings,) = settle(recorded.request, MANIFEST)
    assert settings.hires == HiresSettings(0.0, 128, 192, "lanczos", 4, 0.4)
    file = with_text(
        tmp_path / "b.png",
        text.format("Hires upscale: 1.5, Hires steps: 3, Hires upscaler: Latent"),
    )
    request = recorded_in(file).request
    assert request.hires == HiresSettings(1.5, upscaler="Latent", steps=3)
    file = with_text(tmp_path / "c.png", text.format("Hires upscale: 2, Hires upscaler: None"))
    hires = recorded_in(file).request.hires
    assert hires == HiresSettings(2, upscaler="lanczos"), "the webui resizes with Lanczos then"
