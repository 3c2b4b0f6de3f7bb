"""Ranges of batch, size and text become the optimisation profiles of each component."""

from pathlib import Path

import pytest

from convert.plans.ranges import (
    DEFAULT_BATCH,
    DEFAULT_CHUNKS,
    Ranges,
    SizeRange,
    Span,
    default_sizes,
    make_profiles,
    parse_size_range,
    parse_span,
)
from engines.errors import SettingError
from engines.plans import ShapeRange
from tests.convert.plans.bundles import write_bundle

BATCH, CHUNKS = parse_span(DEFAULT_BATCH, 2), parse_span(DEFAULT_CHUNKS, 1)


def test_the_defaults_for_stable_diffusion(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path / "bundle").manifest
    ranges = Ranges(BATCH, CHUNKS, default_sizes(manifest, single=False))
    own, every = make_profiles(manifest, "unet", ranges)
    assert own == {
        "sample": ShapeRange((1, 4, 64, 64), (2, 4, 64, 64), (16, 4, 64, 64)),
        "timestep": ShapeRange((1,), (2,), (16,)),
        "encoder_hidden_states": ShapeRange((1, 77, 768), (2, 77, 768), (16, 308, 768)),
    }
    assert every["sample"] == ShapeRange((1, 4, 32, 32), (2, 4, 64, 64), (16, 4, 128, 128))
    assert every["encoder_hidden_states"] == own["encoder_hidden_states"]
    assert make_profiles(manifest, "text_encoder", ranges) == (
        {"input_ids": ShapeRange((1, 77), (2, 77), (16, 77))},
    )
    decoder = make_profiles(manifest, "vae_decoder", ranges)
    assert decoder[1] == {
        "latent_sample": ShapeRange((1, 4, 32, 32), (1, 4, 64, 64), (1, 4, 128, 128))
    }
    encoder = make_profiles(manifest, "vae_encoder", ranges)
    assert encoder[1] == {
        "sample": ShapeRange((1, 3, 256, 256), (1, 3, 512, 512), (1, 3, 1024, 1024))
    }
    assert default_sizes(manifest, single=True) == ranges.sizes[1:]


def test_the_defaults_follow_the_bundle(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path / "bundle", size=128).manifest
    own, every = default_sizes(manifest, single=False)
    assert str(own) == "128x128:128x128:128x128"
    assert str(every) == "64x64:128x128:256x256"
    odd = write_bundle(tmp_path / "odd", size=72).manifest
    assert str(default_sizes(odd, single=True)[0]) == "32x32:72x72:144x144"


def test_width_and_height_are_not_mixed_up(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path / "bundle").manifest
    ranges = Ranges(BATCH, CHUNKS, (parse_size_range("768x512", 512, 512),))
    assert make_profiles(manifest, "unet", ranges)[0]["sample"].opt == (2, 4, 64, 96)
    assert make_profiles(manifest, "vae_encoder", ranges)[0]["sample"].opt == (1, 3, 512, 768)


def test_long_prompts_in_the_text_encoder(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path / "bundle").manifest
    sizes = default_sizes(manifest, single=True)
    (profile,) = make_profiles(
        manifest, "text_encoder", Ranges(Span(1, 2, 2), Span(1, 1, 4), sizes)
    )
    assert profile["input_ids"].max == (8, 77)


@pytest.mark.parametrize(
    ("text", "best", "span"),
    [
        ("4", 2, Span(4, 4, 4)),
        ("1:8", 2, Span(1, 2, 8)),
        ("4:8", 2, Span(4, 4, 8)),
        ("1:1", 2, Span(1, 1, 1)),
        ("1:6:8", 2, Span(1, 6, 8)),
    ],
)
def test_spans(text: str, best: int, span: Span) -> None:
    assert parse_span(text, best) == span
    assert parse_span(str(span), 99) == span


@pytest.mark.parametrize(
    "text", ["", "0", "8:1", "1:9:8", "1:2:3:4", "a", "1-8", "1:", "-1:2", "1.5"]
)
def test_wrong_spans(text: str) -> None:
    with pytest.raises(SettingError, match=f"The range '{text}'"):
        parse_span(text, 2)


def test_sizes() -> None:
    assert parse_size_range("512x768", 512, 512) == SizeRange(
        Span(512, 512, 512), Span(768, 768, 768)
    )
    wide = SizeRange(Span(512, 512, 768), Span(256, 512, 1024))
    assert parse_size_range("512x256:768x1024", 512, 512) == wide
    assert parse_size_range("512x256:512x512:768x1024", 99, 99) == wide
    assert parse_size_range(str(wide), 1, 1) == wide
    for text in ("", "512", "512x", "768x768:512x512", "512x768:768x512", "8x8:8x8:8x8:8x8", "0x8"):
        with pytest.raises(SettingError, match=f"'{text}'"):
            parse_size_range(text, 512, 512)


def test_a_size_that_has_no_latents(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path / "bundle").manifest
    ranges = Ranges(BATCH, CHUNKS, (parse_size_range("512x500", 512, 512),))
    with pytest.raises(SettingError, match="height 500 is not a multiple of 8"):
        make_profiles(manifest, "unet", ranges)


def test_a_bundle_of_fixed_sizes(tmp_path: Path) -> None:
    fixed = {
        "batch": 2,
        "tokens": 77,
        "height": 64,
        "width": 64,
        "picture_height": 512,
        "picture_width": 512,
    }
    manifest = write_bundle(tmp_path / "bundle", fixed=fixed).manifest
    ranges = Ranges(BATCH, CHUNKS, default_sizes(manifest, single=False))
    (unet,) = make_profiles(manifest, "unet", ranges)
    for shapes in unet.values():
        assert shapes.min == shapes.opt == shapes.max
    assert unet["sample"].max == (2, 4, 64, 64)
    (decoder,) = make_profiles(manifest, "vae_decoder", ranges)
    assert decoder["latent_sample"].min == (2, 4, 64, 64)
    large = Ranges(BATCH, CHUNKS, (parse_size_range("768x768", 512, 512),))
    with pytest.raises(
        SettingError, match="fixed to height 64, which is not in the range 96 to 96"
    ):
        make_profiles(manifest, "unet", large)
    many = Ranges(Span(4, 4, 8), CHUNKS, ranges.sizes)
    with pytest.raises(SettingError, match="fixed to batch 2, which is not in the range 4 to 8"):
        make_profiles(manifest, "unet", many)
