"""LoRA files: modules, tags, families; and whether they fit the base."""

import json
import logging
from pathlib import Path

import pytest
import torch

from convert.base import read_base
from convert.fuse_record import RankRecord
from convert.lora import Lora, count_ranks, read_lora
from convert.match import match_loras
from convert.model import BaseModel
from convert.updates.low_rank import LowRank
from engines.errors import InputError
from tests.convert.synthetic import Tensors, kohya_module, write_lora

QUERY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
KEY2 = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
PROJECTION = "lora_unet_down_blocks_0_attentions_0_proj_in"
CONVOLUTION = "lora_unet_down_blocks_0_resnets_0_conv1"
FC1 = "lora_te_text_model_encoder_layers_0_mlp_fc1"


@pytest.fixture(scope="module")
def base(demo_base: Path) -> BaseModel:
    return read_base(demo_base, "demo")


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    return tmp_path / "x.safetensors"


def _read(path: Path, tensors: Tensors, **metadata: str) -> Lora:
    return read_lora(write_lora(path, tensors, metadata or None))


def test_the_demo_loras_touch_both_halves(base: BaseModel, demo_loras: tuple[Path, Path]) -> None:
    loras = [read_lora(path) for path in demo_loras]
    for lora, match in zip(loras, match_loras(loras, base), strict=True):
        updates = match.updates
        assert not match.unmatched
        assert len(updates) == len(lora.modules) == 210
        targets = {(update.component, update.target) for update in updates}
        assert len(targets) == 210
        assert ("text_encoder", "text_model.encoder.layers.0.mlp.fc1.weight") in targets


def test_trained_tags_are_summed_over_folders_and_sorted(lora: Path) -> None:
    folders = {"10_a": {"cracked skin": 5, " dark ": 1, "": 9}, "3_b": {"dark": 6, "x": 5}}
    read = _read(lora, kohya_module(QUERY, (2, 64), (64, 2)), ss_tag_frequency=json.dumps(folders))
    assert list(read.trained_tags.items()) == [("dark", 7), ("cracked skin", 5), ("x", 5)]


def test_ranks_are_counted_by_component(lora: Path) -> None:
    tensors = {
        **kohya_module(QUERY, (2, 64), (64, 2), 1.0),
        **kohya_module(KEY2, (2, 96), (64, 2), 1.0),
        **kohya_module(CONVOLUTION, (4, 64, 3, 3), (64, 4, 1, 1)),
        **kohya_module(FC1, (2, 96), (384, 2), 0.5),
    }
    assert count_ranks(_read(lora, tensors)) == (
        RankRecord("text_encoder", "LoRA", 2, 0.5, 1),
        RankRecord("unet", "LoCon", 4, 4.0, 1),
        RankRecord("unet", "LoRA", 2, 1.0, 2),
    )


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        '{"a": 1}',
        '{"a": {"b": null}}',
        '{"a": {"b": Infinity}}',
        '{"a": {"\\ud800": 1}}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:20],
)
def test_unreadable_tags_are_reported(
    lora: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        read = _read(lora, kohya_module(QUERY, (2, 64), (64, 2)), ss_tag_frequency=text)
    assert read.trained_tags == {}
    assert "ss_tag_frequency" in caplog.text


@pytest.mark.parametrize(
    ("tensors", "metadata", "family"),
    [
        (kohya_module("lora_te1_text_model_x", (2, 8), (8, 2)), {}, "SDXL"),
        (kohya_module("lora_te2_text_model_x", (2, 8), (8, 2)), {}, "SDXL"),
        (kohya_module(KEY2, (2, 2048), (64, 2)), {}, "SDXL"),
        (kohya_module(KEY2, (2, 1024), (64, 2)), {}, "Stable Diffusion 2.x"),
        (
            kohya_module(QUERY, (2, 64), (64, 2)),
            {"ss_base_model_version": "sdxl_base_v1-0"},
            "SDXL",
        ),
        (
            kohya_module(QUERY, (2, 64), (64, 2)),
            {"ss_base_model_version": "sd_v2_768_v"},
            "Stable Diffusion 2.x",
        ),
        (
            kohya_module(QUERY, (2, 64), (64, 2)),
            {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"},
            "SDXL",
        ),
    ],
)
def test_other_families_are_refused_by_name(
    lora: Path, tensors: Tensors, metadata: dict[str, str], family: str
) -> None:
    with pytest.raises(InputError, match=f"is a LoRA for {family}; only"):
        _read(lora, tensors, **metadata)


def test_what_is_no_lora_is_said(lora: Path) -> None:
    with pytest.raises(InputError, match=r"is not a LoRA: none of its 1 keys .*'conv\.weight'"):
        _read(lora, {"conv.weight": torch.zeros(1)})
    with pytest.raises(InputError, match="holds no tensors"):
        _read(lora, {})


@pytest.mark.parametrize(
    ("key", "down", "up"),
    [
        (QUERY, (4, 64), (64, 4)),
        (PROJECTION, (4, 64, 1, 1), (64, 4, 1, 1)),
        (PROJECTION, (4, 64), (64, 4)),
        (CONVOLUTION, (4, 64, 3, 3), (64, 4, 1, 1)),
        (FC1, (1, 96), (384, 1)),
    ],
)
def test_shapes_that_fit(
    base: BaseModel, lora: Path, key: str, down: tuple[int, ...], up: tuple[int, ...]
) -> None:
    [match] = match_loras([_read(lora, kohya_module(key, down, up))], base)
    [update] = match.updates
    assert isinstance(update.difference, LowRank)
    assert (update.difference.down.shape, update.difference.scale) == (down, 1.0)


@pytest.mark.parametrize(
    ("key", "down", "up"),
    [
        (QUERY, (4, 63), (64, 4)),
        (QUERY, (4, 64), (63, 4)),
        (QUERY, (4, 64), (64, 5)),
        (QUERY, (0, 64), (64, 0)),
        (QUERY, (4, 64, 1), (64, 4)),
        (CONVOLUTION, (4, 64), (64, 4)),
        (CONVOLUTION, (4, 64, 1, 1), (64, 4, 1, 1)),
        (CONVOLUTION, (4, 64, 1, 9), (64, 4, 1, 1)),
        (CONVOLUTION, (4, 64, 3, 3), (64, 4, 3, 3)),
    ],
)
def test_shapes_that_do_not_fit(
    base: BaseModel, lora: Path, key: str, down: tuple[int, ...], up: tuple[int, ...]
) -> None:
    with pytest.raises(InputError, match=rf"does not fit \(1\): {key}"):
        match_loras([_read(lora, kohya_module(key, down, up))], base)


@pytest.mark.parametrize("alpha", [float("nan"), float("inf")])
def test_an_alpha_that_is_no_number(base: BaseModel, lora: Path, alpha: float) -> None:
    with pytest.raises(InputError, match="alpha is no finite number"):
        match_loras([_read(lora, kohya_module(QUERY, (2, 64), (64, 2), alpha))], base)


@pytest.mark.parametrize(
    ("role", "kind"),
    [
        ("oft_blocks", "OFT"),
        ("a1.weight", "GLoRA"),
        ("bias_indices", "a sparse bias"),
        ("something", "unknown"),
    ],
)
def test_other_kinds_are_named(base: BaseModel, lora: Path, role: str, kind: str) -> None:
    tensors = kohya_module(QUERY, (2, 64), (64, 2))
    tensors[f"{QUERY}.{role}"] = torch.zeros(2, 2)
    with pytest.raises(InputError, match=rf"cannot fuse \(1\): {QUERY}.{role} .{kind}"):
        match_loras([_read(lora, tensors)], base)


def test_two_kinds_in_one_module_are_an_error(base: BaseModel, lora: Path) -> None:
    tensors = kohya_module(QUERY, (2, 64), (64, 2)) | {f"{QUERY}.hada_w1_a": torch.zeros(64, 2)}
    with pytest.raises(InputError, match=rf"{QUERY} \(of two kinds, LowRank and LoHa\)"):
        match_loras([_read(lora, tensors)], base)


def test_one_error_names_every_fault_of_every_lora(base: BaseModel, tmp_path: Path) -> None:
    half = kohya_module(PROJECTION, (4, 64), (64, 4))
    del half[f"{PROJECTION}.lora_up.weight"]
    first = _read(
        tmp_path / "first.safetensors",
        {
            **kohya_module("lora_unet_no_such_layer", (2, 64), (64, 2)),
            **kohya_module(QUERY, (2, 7), (64, 2)),
            **half,
            "stray": torch.zeros(1),
        },
    )
    second = _read(
        tmp_path / "second.safetensors", kohya_module("lora_te_nowhere", (2, 64), (64, 2))
    )
    with pytest.raises(InputError) as raised:
        match_loras([first, second], base)
    message = str(raised.value)
    assert "\n" not in message
    for part in (
        "first.safetensors: keys that match nothing in the base (2): stray, lora_unet_no_such_",
        f"{PROJECTION} (no lora_up.weight)",
        f"{QUERY} (64x2 · 2x7 for 64x64)",
        "second.safetensors: keys that match nothing in the base (1): lora_te_nowhere",
    ):
        assert part in message


def test_a_long_list_is_cut_and_counted(base: BaseModel, lora: Path) -> None:
    tensors: Tensors = {}
    for i in range(60):
        tensors |= kohya_module(f"lora_unet_layer_{i:02}", (1, 2), (2, 1))
    with pytest.raises(
        InputError, match=r"in the base \(60\): .*lora_unet_layer_49 and 10 more\.$"
    ):
        match_loras([_read(lora, tensors)], base)
