"""Sizes and prompts that a backend does not take are refused, with those that it takes."""

import dataclasses
from pathlib import Path

import pytest

from engines import layout
from engines.axes import Limits
from engines.backend import Choice
from engines.bundle import Bundle
from engines.errors import SettingError
from runtime.init_settings import InitSettings
from runtime.pipeline import Pipeline
from runtime.request import Request, settle
from runtime.sizes import check_size, check_tokens
from runtime.source_picture import SourcePicture
from tests.runtime.stand_ins import MANIFEST, StandInBackend, open_stand_in

SQUARE = {"height": (64, 64), "width": (64, 64), "tokens": (77, 308)}
ANY = {"height": (32, 128), "width": (32, 128), "tokens": (77, 77)}
PLANS = Limits({layout.UNET: (SQUARE, ANY), layout.VAE_DECODER: (ANY,)})
INIT = InitSettings(SourcePicture("0" * 64, 768, 768))
(SETTINGS,) = settle(Request("a cat", width=512, height=512), MANIFEST)


def test_sizes_within_one_alternative_pass() -> None:
    check_size(SETTINGS, PLANS, 8)
    check_size(dataclasses.replace(SETTINGS, width=1024, height=256), PLANS, 8)
    check_size(dataclasses.replace(SETTINGS, width=8, height=8), Limits({}), 8)


@pytest.mark.parametrize(
    ("component", "limits"),
    [
        (layout.UNET, PLANS),
        (layout.VAE_DECODER, Limits({layout.VAE_DECODER: (SQUARE, ANY)})),
    ],
)
def test_another_size_is_refused_with_the_ranges(component: str, limits: Limits) -> None:
    wide = dataclasses.replace(SETTINGS, width=2048, height=512)
    with pytest.raises(
        SettingError,
        match=rf"2048x512 is .*'s {component} takes 512x512 or 256x256 to 1024x1024\.",
    ):
        check_size(wide, limits, 8)


def test_the_vae_encoder_is_asked_where_there_is_a_picture_to_encode() -> None:
    ranges = {"picture_height": (64, 512), "picture_width": (64, 768)}
    limits = Limits({layout.VAE_ENCODER: (ranges,)})
    high = dataclasses.replace(SETTINGS, width=768, height=768)
    check_size(high, limits, 8)
    with pytest.raises(SettingError, match="the bundle's vae_encoder takes 64x64 to 768x512"):
        check_size(dataclasses.replace(high, init=INIT), limits, 8)
    with pytest.raises(SettingError, match="1024x64 is not possible"):
        check_size(dataclasses.replace(high, width=1024, height=64, init=INIT), limits, 8)


def test_tiles_are_what_the_vae_sees() -> None:
    small = {"height": (8, 96), "width": (8, 96)}
    limits = Limits({layout.UNET: ({},), layout.VAE_DECODER: (small,)})
    check_size(dataclasses.replace(SETTINGS, width=2048, height=2048), limits, 8)
    check_size(dataclasses.replace(SETTINGS, width=1024, height=256, vae_tiling="on"), limits, 8)
    with pytest.raises(SettingError, match="1024x256 is not"):
        check_size(dataclasses.replace(SETTINGS, width=1024, height=256), limits, 8)
    with pytest.raises(SettingError, match=r"2048x2048 is not possible .* bundle's unet takes"):
        check_size(
            dataclasses.replace(SETTINGS, width=2048, height=2048),
            Limits({layout.UNET: (small,)}),
            8,
        )
    only = Limits({layout.VAE_DECODER: ({"height": (64, 64), "width": (64, 64)},)})
    with pytest.raises(SettingError, match=r"2048x512 in tiles of 768x512 is not .* takes 512x512"):
        check_size(dataclasses.replace(SETTINGS, width=2048, vae_tiling="on"), only, 8)


def test_an_axis_without_limit_is_any() -> None:
    with pytest.raises(SettingError, match="takes anyx512"):
        check_size(
            dataclasses.replace(SETTINGS, height=64),
            Limits({layout.UNET: ({"height": (64, 64)},)}),
            8,
        )


def test_long_prompts_depend_on_the_size() -> None:
    check_tokens(308, SETTINGS, PLANS, 8)
    with pytest.raises(SettingError, match=r"154 tokens .* the UNet takes 77 at this size"):
        check_tokens(154, dataclasses.replace(SETTINGS, width=1024), PLANS, 8)


class Limited(StandInBackend):
    def limits(self, bundle: Bundle) -> Limits:
        return Limits(
            {
                layout.UNET: ({**ANY, "batch": (1, 2)},),
                layout.TEXT_ENCODER: ({"batch": (1, 1)},),
                layout.VAE_DECODER: (ANY,),
            }
        )


def test_the_pipeline_keeps_to_the_backends_limits(tmp_path: Path) -> None:
    backend = Limited()
    pipeline = Pipeline(open_stand_in(tmp_path / "look"), Choice(backend, "asked for"))
    with pytest.raises(SettingError, match="The size 64x64 is not possible on this backend"):
        pipeline.settle([Request("a cat", width=64, height=64)])
    assert not backend.sessions, "nothing was loaded for it"
    settings = pipeline.settle([Request("a cat", width=256, height=256, count=3)])
    assert len(list(pipeline.generate(settings))) == 3
    assert max(backend.sessions[layout.UNET].batches) == 2
    assert max(backend.sessions[layout.TEXT_ENCODER].batches) == 1
    with pytest.raises(SettingError, match="take 231 tokens"):
        pipeline.settle([Request("cat " * 100, width=256, height=256)])
    for changed, message in (
        ({"width": 64}, "The size 64x256 is not possible on this backend"),
        ({"prompt": "cat " * 100}, "take 231 tokens"),
    ):
        with pytest.raises(SettingError, match=message):
            pipeline.generate(dataclasses.replace(settings[0], **changed))
