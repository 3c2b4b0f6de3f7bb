"""Hires fix keeps the proportions of the first pass: the size is covered, and the rest cut off."""

from pathlib import Path

import numpy as np
import pytest

from engines import layout
from engines.axes import Limits
from engines.backend import Choice
from engines.errors import SettingError
from runtime.again import request_of
from runtime.arrays import Latents, Pixels
from runtime.calls import Calls, complete
from runtime.hires import HiresSettings, enlarged_size, settle_hires, upscale
from runtime.pipeline import Pipeline
from runtime.request import Request, settle
from runtime.seeds import MAX_SIDE
from runtime.sizes import check_size
from tests.runtime.stand_ins import MANIFEST, StandInBackend, open_stand_in

HUGE = int("9" * 400)


def _hires(**fields: object) -> Request:
    size = {name: fields.pop(name) for name in ("width", "height", "steps") if name in fields}
    hires = HiresSettings(**{name.removeprefix("hires_"): each for name, each in fields.items()})  # type: ignore[arg-type]
    return Request("a cat", seed=1, hires=hires, **{"width": 64, "height": 64, **size})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hires", "first", "settled", "enlarged"),
    [
        (HiresSettings(width=256, height=128), (128, 128), (256, 128), (256, 256)),
        (HiresSettings(width=128, height=256), (128, 128), (128, 256), (256, 256)),
        (HiresSettings(width=120, height=104), (80, 64), (120, 104), (130, 104)),
        (HiresSettings(width=120, height=104), (64, 80), (120, 104), (120, 150)),
        (HiresSettings(width=128, height=96), (64, 48), (128, 96), (128, 96)),
        (HiresSettings(width=64, height=80), (128, 128), (64, 80), (80, 80)),
        (HiresSettings(height=160), (72, 64), (176, 160), (180, 160)),
        (HiresSettings(width=160), (64, 72), (160, 176), (160, 180)),
        (HiresSettings(scale=1.7), (72, 64), (120, 104), (122, 108)),
        (HiresSettings(scale=2.0), (72, 64), (144, 128), (144, 128)),
    ],
)
def test_sizes_are_covered(
    hires: HiresSettings,
    first: tuple[int, int],
    settled: tuple[int, int],
    enlarged: tuple[int, int],
) -> None:
    """By hand: 104 * 80 / 64 = 130, 120 * 80 / 64 = 150, 160 * 72 / 64 = 180, 72 * 1.7 = 122.4."""
    whole = settle_hires(hires, *first, steps=8, downscale=8)
    assert (whole.width, whole.height) == settled
    assert enlarged_size(whole, *first, downscale=8) == enlarged


def test_what_is_enlarged_is_never_too_small() -> None:
    """And in the proportions of the first pass, to a pixel."""
    rng = np.random.default_rng(0)
    for first_and_asked in rng.integers(8, MAX_SIDE // 8 + 1, (2000, 4)).tolist():
        width, height, wide, tall = (8 * side for side in first_and_asked)
        columns, rows = enlarged_size(HiresSettings(0.0, wide, tall), width, height, 8)
        assert columns >= wide
        assert rows >= tall
        assert columns == wide or rows == tall
        assert abs(columns * height - rows * width) < max(width, height)


def _enlarge(
    hires: HiresSettings, latents: Latents, picture: Pixels
) -> tuple[Latents, list[tuple[int, ...]]]:
    """What comes of latents whose picture is `picture`; an encoder sees one pixel per latent."""
    encoded: list[tuple[int, ...]] = []

    def decode(_: Latents) -> Calls[Pixels]:
        yield layout.VAE_DECODER
        return picture

    def encode(pixels: Pixels) -> Calls[Latents]:
        yield layout.VAE_ENCODER
        encoded.append(pixels.shape)
        made: Latents = pixels[::8, ::8].transpose(2, 0, 1).astype(np.float32)
        return made

    return complete(upscale(latents, hires, 8, decode, encode)), encoded


@pytest.mark.parametrize("sides_swapped", [False, True])
def test_the_middle_is_cut_out(sides_swapped: bool) -> None:
    """From 2x2 latents to 8x4: 8x8, of which two rows go above and two below.

    To 5x4: 5x5, of which the last one goes.
    """
    latents = np.array([[[0, 1], [2, 3]]], np.float32)
    wanted = {
        8: [[0] * 4 + [1] * 4] * 2 + [[2] * 4 + [3] * 4] * 2,
        5: [[0, 0, 0, 1, 1]] * 3 + [[2, 2, 2, 3, 3]],
    }
    for columns, rows in wanted.items():
        size, expected = (8 * columns, 32), np.array(rows, np.float32)
        if sides_swapped:
            size, expected = size[::-1], expected.T
        given = latents.transpose(0, 2, 1) if sides_swapped else latents
        picture = np.repeat(np.repeat(given[0], 8, axis=0), 8, axis=1).astype(np.uint8)
        picture = np.repeat(picture[..., None], 3, axis=2)
        for upscaler in ("latent (nearest)", "nearest"):
            hires = HiresSettings(0.0, *size, upscaler=upscaler)
            made, encoded = _enlarge(hires, given, picture)
            np.testing.assert_array_equal(made[0], expected)
            assert encoded == ([] if "latent" in upscaler else [(8 * columns, 8 * columns, 3)])


def test_a_remainder_of_the_picture_makes_no_latent() -> None:
    """From 72x64 to a height of 160 and 180 pixels, of which the first 176 are encoded.

    Pixel x of them comes from (x + 1/2) * 72 / 180, rounded down.
    """
    hires = settle_hires(HiresSettings(height=160, upscaler="nearest"), 72, 64, 8, 8)
    ramp = np.zeros((64, 72, 3), np.uint8) + np.arange(72, dtype=np.uint8)[:, None]
    made, encoded = _enlarge(hires, np.zeros((4, 8, 9), np.float32), ramp)
    assert encoded == [(160, 176, 3)]
    assert made.shape == (3, 20, 22)
    np.testing.assert_array_equal(made[0, 0, [0, 5, 10, 15, 20, 21]], [0, 16, 32, 48, 64, 67])


@pytest.mark.parametrize("upscaler", ["latent", "lanczos"])
@pytest.mark.parametrize("tiling", ["on", "off"])
@pytest.mark.parametrize(("wide", "tall"), [(1032, 520), (520, 1032)])
def test_the_size_is_as_asked_for(
    tmp_path: Path, wide: int, tall: int, tiling: str, upscaler: str
) -> None:
    """Enlarged from 72x64 to 1032x917 or 1161x1032, which is tiled in four."""
    backend = StandInBackend()
    hires = HiresSettings(width=wide, height=tall, upscaler=upscaler, steps=1, strength=0.3)
    request = Request("a cat", seed=3, steps=2, hires=hires, width=72, height=64, vae_tiling=tiling)
    with Pipeline(open_stand_in(tmp_path / "a"), Choice(backend, "")) as pipeline:
        (picture,) = pipeline.generate([request])
    assert picture.pixels.shape == (tall, wide, 3)
    assert (layout.VAE_ENCODER in backend.sessions) == (upscaler == "lanczos")
    if upscaler == "lanczos":
        calls = len(backend.sessions[layout.VAE_ENCODER].batches)
        assert calls == (4 if tiling == "on" else 1)


@pytest.mark.parametrize(
    "hires",
    [
        HiresSettings(scale=1.7, upscaler="lanczos"),
        HiresSettings(height=160, upscaler="lanczos"),
        HiresSettings(width=160, height=80),
    ],
)
def test_settings_asked_for_again_are_enlarged_alike(hires: HiresSettings) -> None:
    (settings,) = settle(Request("a", seed=1, width=72, height=64, hires=hires), MANIFEST)
    assert settle(request_of(settings), MANIFEST) == (settings,)


def test_the_encoder_is_asked_for_the_enlarged_picture() -> None:
    limits = Limits({layout.VAE_ENCODER: ({"picture_height": (64, 512)},)})
    hires = {"hires_width": 1024, "hires_height": 512, "width": 512, "height": 512}
    (latent,) = settle(_hires(**hires), MANIFEST)
    check_size(latent, limits, 8)
    (picture,) = settle(_hires(**hires, hires_upscaler="lanczos"), MANIFEST)
    with pytest.raises(
        SettingError, match="1024x1024, to which hires fix enlarges before it crops, is not"
    ):
        check_size(picture, limits, 8)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 0, "hires_width": 256}, "the width 0 is not possible: choose 64 to 2048."),
        ({"height": 0, "hires_height": 256}, "the height 0 is not possible: choose 64 to 2048."),
        ({"width": 0}, "the width 0 is not possible: choose 64 to 2048."),
        (
            {"width": 0, "height": 0},
            "the width 0 is not possible: choose 64 to 2048; "
            "the height 0 is not possible: choose 64 to 2048.",
        ),
        ({"width": HUGE}, f"the width {HUGE} is not possible: choose 64 to 2048."),
        ({"hires_width": HUGE}, f"the hires width {HUGE} is not possible: choose 64 to 2048."),
        ({"hires_height": -8}, "the hires height -8 is not possible: choose 64 to 2048."),
        ({"hires_scale": 0.0}, "the hires width 0 is not possible: choose 64 to 2048."),
        ({"hires_steps": HUGE}, f"{HUGE} hires steps are not possible: choose 1 to 1000."),
        (
            {"steps": HUGE, "hires_steps": 2},
            f"{HUGE} steps are not possible: choose 1 to 1000.",
        ),
        (
            {"hires_width": 512, "hires_height": 64, "height": 512, "hires_upscaler": "lanczos"},
            "a picture of 64x512 would have to be enlarged to 512x4096 before 512x64 are cut out: "
            "choose a size of nearer proportions, or a latent upscaler.",
        ),
    ],
)
def test_what_is_not_possible_is_said_alone(fields: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError) as caught:
        settle(_hires(**fields), MANIFEST)
    assert str(caught.value) == message


def test_latents_may_be_enlarged_to_any_proportions() -> None:
    (settings,) = settle(_hires(hires_width=512, hires_height=64, height=512), MANIFEST)
    assert settings.hires is not None
    made, _ = _enlarge(
        settings.hires, np.ones((4, 64, 8), np.float32), np.zeros((0, 0, 3), np.uint8)
    )
    assert made.shape == (4, 8, 64)
