"""What an export may be told, and what it answers to what it may not."""

import pytest

from convert.export_options import (
    ExportOptions,
    StaticShape,
    option_faults,
    parse_dtypes,
    parse_static,
)
from engines import layout
from engines.errors import SettingError


def test_one_dtype_for_all() -> None:
    assert parse_dtypes("fp16") == dict.fromkeys(layout.COMPONENTS, "fp16")


def test_a_component_may_have_its_own() -> None:
    assert parse_dtypes("fp16, vae_decoder=fp32,unet=fp16") == {
        "text_encoder": "fp16",
        "unet": "fp16",
        "vae_encoder": "fp16",
        "vae_decoder": "fp32",
    }


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "The dtype ''"),
        ("bf16", "The dtype 'bf16'"),
        ("unet=fp16", "The dtype 'unet=fp16'"),
        ("fp16,", "names no component with ''"),
        ("fp16,fp32", "names no component with 'fp32'"),
        ("fp16,clip=fp32", "one of text_encoder, unet, vae_encoder, vae_decoder"),
        ("fp16,unet=fp8", "The dtype 'fp8'"),
        ("fp16,unet", "The dtype ''"),
        ("fp16,unet=fp32,unet=fp32", "names unet twice"),
    ],
)
def test_a_dtype_that_is_none_is_named(text: str, fault: str) -> None:
    with pytest.raises(SettingError, match=fault):
        parse_dtypes(text)


def test_static_shapes() -> None:
    assert parse_static("") is None
    assert parse_static("512x768") == StaticShape(512, 768, None)
    assert parse_static("8x16x2") == StaticShape(8, 16, 2)


@pytest.mark.parametrize(
    "text", ["512", "x", "512x", "512x512x", "0x8", "8x8x0", "8X8", "-8x8", "8x8x2x1", "999999x8"]
)
def test_a_static_shape_that_is_none_is_named(text: str) -> None:
    with pytest.raises(SettingError, match="neither WIDTHxHEIGHT nor"):
        parse_static(text)


def test_a_static_shape_fixes_pixels_and_latents() -> None:
    sizes = {"height": 96, "width": 64, "picture_height": 768, "picture_width": 512}
    assert StaticShape(512, 768, None).axes(8) == sizes
    assert StaticShape(512, 768, 2).axes(8) == {**sizes, "batch": 2, "tokens": 77}
    with pytest.raises(SettingError, match="width 516 is not a multiple of 8"):
        StaticShape(516, 512, None).axes(8)


def test_every_fault_is_named_with_its_option() -> None:
    assert list(option_faults(ExportOptions())) == []
    faults = list(option_faults(ExportOptions("int8", 24, "big")))
    assert [fault.partition(":")[0] for fault in faults] == ["dtype", "opset", "static"]
    assert "The opset 24 is not in 18 to 23" in faults[1]
