"""Pictures from pictures on stand-ins: what changes, what stays, and what is refused."""

import dataclasses
import re

import numpy as np
import pytest

from engines import layout
from engines.backend import Choice
from engines.bundle import Bundle
from engines.errors import InternalError, SettingError
from runtime import init_settings
from runtime.arrays import Pixels
from runtime.calls import complete
from runtime.hires import HiresSettings
from runtime.init_settings import InitSettings, MaskSettings
from runtime.masks import blur
from runtime.pipeline import Pipeline
from runtime.request import Request, Settings, settle
from runtime.resize import CROP, EXTEND, FILL, resize
from runtime.source_picture import SourcePicture
from tests.runtime.stand_ins import MANIFEST, StandInBackend, open_stand_in

RNG = np.random.default_rng(0)
PHOTO = SourcePicture.of(RNG.integers(0, 256, (72, 96, 3)).astype(np.uint8))
_BOX = np.zeros((72, 96), np.uint8)
_BOX[20:50, 30:60] = 255
BOX = SourcePicture.of(_BOX)
LONG = SourcePicture.of(np.zeros((1, 100_000, 3), np.uint8))
INIT = InitSettings(PHOTO, 0.5)
INPAINT = InitSettings(PHOTO, 0.5, mask=MaskSettings(BOX))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_stand_in(tmp_path_factory.mktemp("bundle"))


def _make(bundle: Bundle, request: Request) -> tuple[Pixels, StandInBackend, list[tuple[int, int]]]:
    backend = StandInBackend()
    steps: list[tuple[int, int]] = []
    with Pipeline(bundle, Choice(backend, "")) as pipeline:
        (picture,) = pipeline.generate(
            pipeline.settle([request]), lambda step: steps.append((step.done, step.total))
        )
    return picture.pixels, backend, steps


def _request(init: InitSettings | None = None, **fields: object) -> Request:
    return dataclasses.replace(Request("a cat", seed=3, steps=8, init=init), **fields)  # type: ignore[arg-type]


def _mask(**fields: object) -> InitSettings:
    mask = dataclasses.replace(MaskSettings(BOX), **fields)  # type: ignore[arg-type]
    return dataclasses.replace(INPAINT, mask=mask)


def test_strength_is_the_share_of_the_steps(bundle: Bundle) -> None:
    for strength, rows in ((1.0, 8), (0.5, 4), (0.49, 3), (0.125, 1)):
        init = dataclasses.replace(INIT, strength=strength)
        pixels, backend, steps = _make(bundle, _request(init))
        assert len(backend.sessions[layout.UNET].batches) == rows
        assert steps[-1] == (rows, rows)
        assert pixels.shape == (72, 96, 3)


VARIANTS = {
    "the picture": INIT,
    "another strength": dataclasses.replace(INIT, strength=0.75),
    "another picture": dataclasses.replace(INIT, picture=SourcePicture.of(PHOTO.loaded("")[::-1])),
    "a mask": INPAINT,
    "another mask": _mask(picture=SourcePicture.of(_BOX[::-1].copy())),
    "no blur": _mask(blur=0.0),
    "inverted": _mask(invert=True),
    "fill": _mask(content="fill"),
    "latent noise": _mask(content="latent noise"),
    "latent nothing": _mask(content="latent nothing"),
    "only masked": _mask(only_masked=True, padding=8),
    "other padding": _mask(only_masked=True, padding=3),
    "soft": _mask(soft=True),
}


def test_every_setting_changes_the_picture(bundle: Bundle) -> None:
    made = {
        name: _make(bundle, _request(init, width=96, height=72))[0].tobytes()
        for name, init in VARIANTS.items()
    }
    assert len(set(made.values())) == len(VARIANTS)
    assert made["a mask"] == _make(bundle, _request(INPAINT))[0].tobytes()


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("only_masked", [False, True])
@pytest.mark.parametrize("blur", [0.0, 2.0])
def test_untouched_pixels_stay(bundle: Bundle, blur: float, only_masked: bool, soft: bool) -> None:
    init = _mask(blur=blur, only_masked=only_masked, soft=soft, padding=4)
    pixels, *_ = _make(bundle, _request(init))
    photo = PHOTO.loaded("")
    reach = int(2.5 * blur + 0.5)
    outside = np.ones((72, 96), np.bool_)
    outside[20 - reach : 50 + reach, 30 - reach : 60 + reach] = False
    np.testing.assert_array_equal(pixels[outside], photo[outside])
    assert (pixels[25:45, 35:55] != photo[25:45, 35:55]).mean() > 0.9


@pytest.mark.parametrize("size", [(72, 101), (65, 96), (79, 103), (64, 72)])
@pytest.mark.parametrize("blur", [0.0, 2.0])
def test_untouched_pixels_of_any_size_stay(
    bundle: Bundle, size: tuple[int, int], blur: float
) -> None:
    photo = RNG.integers(0, 256, (*size, 3)).astype(np.uint8)
    box = np.zeros(size, np.uint8)
    box[40:, 30:] = 255
    mask = MaskSettings(SourcePicture.of(box), blur=blur)
    pixels, backend, _ = _make(
        bundle, _request(InitSettings(SourcePicture.of(photo), 0.5, mask=mask))
    )
    assert pixels.shape == photo.shape
    assert backend.unet_shapes() == {(-(-size[0] // 8), -(-size[1] // 8))}
    reach = int(2.5 * blur + 0.5)
    for kept in (np.s_[: 40 - reach], np.s_[:, : 30 - reach]):
        np.testing.assert_array_equal(pixels[kept], photo[kept])
    assert (pixels[45:, 35:] != photo[45:, 35:]).mean() > 0.9


def test_a_picture_that_is_extended_comes_back_in_its_size(bundle: Bundle) -> None:
    """With a size that is asked for, and without a mask, only where the mode says so."""
    photo = SourcePicture.of(RNG.integers(0, 256, (79, 101, 3)).astype(np.uint8))
    extended = InitSettings(photo, 0.5, EXTEND)
    masked = InitSettings(photo, 0.5, mask=MaskSettings(SourcePicture.of(photo.loaded("")[..., 0])))

    def shape(init: InitSettings, **fields: int) -> tuple[int, ...]:
        return _make(bundle, _request(init, **fields))[0].shape[:2]

    assert shape(extended) == (79, 101)
    assert shape(extended, width=112, height=88) == (79, 101)
    assert shape(InitSettings(photo, 0.5)) == (72, 96)
    assert shape(masked) == (79, 101)
    assert shape(masked, width=104, height=80) == (80, 104)
    assert shape(dataclasses.replace(masked, resize=CROP)) == (72, 96)
    with pytest.raises(SettingError, match="101x79 cannot be extended to 96x80"):
        shape(extended, width=96, height=80)


def test_what_is_beside_a_picture_repeats_its_edge() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    extended = resize(pixels, 5, 4, EXTEND)
    for y, x in np.ndindex(4, 5):
        np.testing.assert_array_equal(extended[y, x], pixels[min(y, 1), min(x, 2)])
    np.testing.assert_array_equal(resize(pixels[..., 0], 5, 4, EXTEND), extended[..., 0])


def test_a_mask_is_blurred_once(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wide blur takes a second, and a server's other pictures would wait for it."""
    calls = []

    def count(mask: Pixels, sigma: float) -> Pixels:
        calls.append(sigma)
        return blur(mask, sigma)

    monkeypatch.setattr(init_settings, "blur", count)
    with Pipeline(bundle, Choice(StandInBackend(), "")) as pipeline:
        request = _request(_mask(blur=3.25, content="fill"), count=2)
        first, second = (picture.pixels for picture in pipeline.generate(request))
        again, _ = (picture.pixels for picture in pipeline.generate(request))
    assert calls == [3.25]
    np.testing.assert_array_equal(first, again)
    assert (first != second).any()


def test_an_inverted_mask_keeps_the_inside(bundle: Bundle) -> None:
    pixels, *_ = _make(bundle, _request(_mask(invert=True, blur=0.0)))
    photo = PHOTO.loaded("")
    np.testing.assert_array_equal(pixels[20:50, 30:60], photo[20:50, 30:60])
    assert (pixels[:20] != photo[:20]).mean() > 0.9


def test_grey_counts_in_soft_masks_only(bundle: Bundle) -> None:
    grey = SourcePicture.of(np.where(_BOX > 0, np.uint8(160), np.uint8(90)))

    def make(mask: SourcePicture, *, soft: bool) -> bytes:
        return _make(bundle, _request(_mask(picture=mask, soft=soft, blur=0.0)))[0].tobytes()

    assert make(grey, soft=False) == make(BOX, soft=False)
    assert make(grey, soft=True) != make(BOX, soft=True)


def test_only_masked_work_has_the_size_of_the_request(bundle: Bundle) -> None:
    init = _mask(only_masked=True)
    pixels, backend, _ = _make(bundle, _request(init))
    assert pixels.shape == (72, 96, 3)
    assert backend.unet_shapes() == {(8, 8)}, "the bundle's size, not the picture's"
    _, backend, _ = _make(bundle, _request(init, width=128, height=72))
    assert backend.unet_shapes() == {(9, 16)}


def test_the_size_of_the_picture_is_the_default() -> None:
    photo = SourcePicture.of(np.zeros((101, 79, 3), np.uint8))

    def size(**fields: object) -> tuple[int, int]:
        (settings,) = settle(_request(InitSettings(photo), **fields), MANIFEST)
        return settings.width, settings.height

    assert size() == (72, 96)
    assert size(width=128, height=80) == (128, 80)


@pytest.mark.parametrize("resize", [CROP, FILL])
def test_the_resize_mode_counts(bundle: Bundle, resize: str) -> None:
    size = {"width": 128, "height": 64}
    stretched, *_ = _make(bundle, _request(INPAINT, **size))
    other, *_ = _make(bundle, _request(dataclasses.replace(INPAINT, resize=resize), **size))
    assert stretched.shape == other.shape == (64, 128, 3)
    assert not np.array_equal(stretched, other)


def test_hires_takes_a_second_pass(bundle: Bundle) -> None:
    hires = HiresSettings(scale=1.5, steps=3, strength=0.5)
    pixels, backend, steps = _make(bundle, _request(hires=hires, width=64, height=80))
    assert pixels.shape == (120, 96, 3)
    assert len(backend.sessions[layout.UNET].batches) == 8 + 3
    assert steps[0] == (0, 11)
    assert steps[-1] == (11, 11)
    assert backend.unet_shapes() == {(10, 8), (15, 12)}
    assert layout.VAE_ENCODER not in backend.sessions, "latents are enlarged as they are"


def test_every_upscaler_gives_another_picture(bundle: Bundle) -> None:
    names = ("Latent", "latent (nearest)", "latent (bicubic)", "nearest", "bilinear", "bicubic")
    made = set()
    for name in (*names, "Lanczos"):
        hires = HiresSettings(upscaler=name, steps=1, strength=0.2)
        pixels, *_ = _make(bundle, _request(hires=hires))
        assert pixels.shape == (128, 128, 3)
        made.add(pixels.tobytes())
    assert len(made) == 7


def test_a_picture_whose_second_pass_was_left_out_is_not_finished(bundle: Bundle) -> None:
    with Pipeline(bundle, Choice(StandInBackend(), "")) as pipeline:
        (settings,) = pipeline.settle([_request(hires=HiresSettings())])
        slot = complete(pipeline.start(settings, pipeline.table(settings)))
        with pytest.raises(InternalError, match="another pass"):
            complete(pipeline.finish(slot.latents, settings))


def test_tiles_are_used_where_they_are_asked_for(bundle: Bundle) -> None:
    """A stand-in sees each place alone, so that tiles change nothing but the calls."""
    init = dataclasses.replace(INIT, strength=0.2)
    large = {"width": 1032, "height": 200}
    whole, backend, _ = _make(bundle, _request(init, vae_tiling="off", **large))
    assert len(backend.sessions[layout.VAE_DECODER].batches) == 1
    tiled, backend, _ = _make(bundle, _request(init, vae_tiling="on", **large))
    assert len(backend.sessions[layout.VAE_DECODER].batches) == 2
    assert len(backend.sessions[layout.VAE_ENCODER].batches) == 2
    assert np.abs(whole.astype(int) - tiled).max() <= 1


def _refusal(**fields: object) -> str:
    with pytest.raises(SettingError) as caught:
        settle(_request(**fields), MANIFEST)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"init": dataclasses.replace(INIT, strength=0.0)}, "strength 0 is not possible"),
        ({"init": dataclasses.replace(INIT, strength=1.1)}, "strength 1.1 is not possible"),
        ({"init": dataclasses.replace(INIT, strength=0.1)}, "none of 8 steps: choose at least 0.1"),
        (
            {"init": dataclasses.replace(INIT, resize="squeeze")},
            "no resize mode 'squeeze': choose one of just-resize, crop-and-resize, resize-and-fill",
        ),
        ({"init": InitSettings(BOX)}, "to start from is a mask"),
        (
            {"init": InitSettings(LONG, resize=CROP), "width": 256, "height": 256},
            "100000x1 pixels would have to be scaled to 25600000x256 before",
        ),
        ({"init": INIT, "steps": 10**400}, "000 steps are not possible: choose 1 to 1000."),
        (
            {"init": InitSettings(PHOTO, resize=CROP), "width": 10**400, "height": 64},
            "000 is not possible: choose 64 to 2048.",
        ),
        ({"init": _mask(blur=-1.0)}, "mask blur -1"),
        ({"init": _mask(blur=float("nan"))}, "mask blur nan"),
        (
            {"init": _mask(content="void")},
            "no masked content 'void': choose one of fill, original, latent-noise, latent-nothing",
        ),
        ({"init": _mask(padding=-1)}, "padding -1"),
        ({"init": _mask(picture=PHOTO)}, "the mask has colours"),
        (
            {"init": _mask(picture=SourcePicture.of(_BOX[:8]))},
            "the mask is 96x8 and its picture 96x72",
        ),
        ({"init": _mask(picture=SourcePicture.of(0 * _BOX))}, "leaves nothing to paint"),
        (
            {"init": _mask(picture=SourcePicture.of(0 * _BOX + 255), invert=True)},
            "leaves nothing to paint",
        ),
        ({"hires": HiresSettings(scale=0.5)}, "hires scale 0.5 is not possible"),
        ({"hires": HiresSettings(scale=float("nan"))}, "hires scale nan is not possible"),
        ({"hires": HiresSettings(scale=1.0)}, "hires size 64x64 is that of the first pass"),
        ({"hires": HiresSettings(width=100, height=64)}, "hires width 100 is not a multiple"),
        ({"hires": HiresSettings(scale=8.0), "width": 512}, "hires width 4096 is not possible"),
        ({"hires": HiresSettings(upscaler="ESRGAN")}, "no upscaler 'esrgan': choose one of lat"),
        ({"hires": HiresSettings(strength=0.0)}, "hires strength 0 is not possible"),
        ({"hires": HiresSettings(strength=0.005)}, "8 hires steps at strength 0.005"),
        ({"hires": HiresSettings(steps=-1)}, "-1 hires steps"),
        (
            {"hires": HiresSettings(), "init": INIT},
            "has no hires pass: leave one out (--hires-scale",
        ),
        ({"vae_tiling": "maybe"}, "no VAE tiling 'maybe': choose one of auto, on, off"),
    ],
)
def test_what_is_not_possible_is_said(fields: dict[str, object], message: str) -> None:
    said = _refusal(**fields)
    assert message in said
    assert "\n" not in said


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 8, 9, 12, 30, 41, 64, 150, 333, 999, 1000])
def test_the_strength_that_is_advised_leaves_a_step(steps: int) -> None:
    said = _refusal(init=dataclasses.replace(INIT, strength=0.9 / steps), steps=steps)
    advice = re.search(r"leaves none of \d+ steps: choose at least ([\d.]+), or more", said)
    assert advice is not None
    strength = float(advice[1])
    assert init_settings.first_step(steps, strength) == steps - 1
    assert settle(_request(dataclasses.replace(INIT, strength=strength), steps=steps), MANIFEST)


def test_a_picture_that_only_a_record_names_is_asked_for(bundle: Bundle) -> None:
    named = SourcePicture(PHOTO.sha256, 96, 72)
    settings = Settings("a", "", 1, 8, 1.0, "DDIM", "normal", 96, 72, 1, init=InitSettings(named))
    with (
        Pipeline(bundle, Choice(StandInBackend(), "")) as pipeline,
        pytest.raises(SettingError, match=f"sha256 {PHOTO.sha256[:16]}… is needed: give it again"),
    ):
        list(pipeline.generate([settings]))


def test_hires_sides_that_are_left_out() -> None:
    (settings,) = settle(_request(hires=HiresSettings(scale=1.7), width=72, height=64), MANIFEST)
    assert settings.hires is not None
    assert (settings.hires.width, settings.hires.height) == (120, 104)
    assert settings.hires.steps == settings.steps == 8
    (settings,) = settle(_request(hires=HiresSettings(width=128)), MANIFEST)
    assert settings.hires is not None
    assert (settings.hires.width, settings.hires.height, settings.hires.scale) == (128, 128, 0)
    hires = HiresSettings(height=160)
    (settings,) = settle(_request(hires=hires, width=72, height=64), MANIFEST)
    assert settings.hires is not None
    assert (settings.hires.width, settings.hires.height) == (176, 160)


def test_prompt_editing_counts_the_steps_that_are_made(bundle: Bundle) -> None:
    """Of 8 steps, strength 0.5 makes 4."""
    made = {
        prompt: _make(bundle, _request(INIT, prompt=prompt))[0]
        for prompt in ("a", "b", "[a:b:2]", "[a:b:0.25]", "[a:b:4]", "[a:b:0.5]")
    }
    np.testing.assert_array_equal(made["[a:b:2]"], made["[a:b:0.25]"])
    for prompt in ("a", "b"):
        assert not np.array_equal(made["[a:b:2]"], made[prompt])
    np.testing.assert_array_equal(made["[a:b:4]"], made["a"])
    np.testing.assert_array_equal(made["[a:b:0.5]"], made["a"])


def test_prompt_editing_goes_on_in_the_second_pass(bundle: Bundle) -> None:
    """The second pass makes 3 steps: those after the 8 of the first, and fractions from 1 to 2."""
    hires = HiresSettings(scale=1.5, steps=3, strength=0.5)
    made = {
        when: _make(bundle, _request(prompt=f"[a:b:{when}]", hires=hires))[0]
        for when in ("8", "1.0", "9", "1.4", "10", "1.7", "11", "2.0", "0")
    }
    same = [("8", "1.0"), ("9", "1.4"), ("10", "1.7"), ("11", "2.0")]
    for whole, fraction in same:
        np.testing.assert_array_equal(made[whole], made[fraction])
    np.testing.assert_array_equal(made["11"], _make(bundle, _request(prompt="a", hires=hires))[0])
    different = [made[when] for when in ("0", "8", "9", "10", "11")]
    for i, one in enumerate(different):
        assert not any(np.array_equal(one, other) for other in different[:i])
