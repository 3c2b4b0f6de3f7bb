"""Inputs that are mostly right, so that they get far, and wrong somewhere."""

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from hypothesis import strategies as st

from convert.base import read_base
from convert.fuse_record import BaseRecord, Coverage, FuseRecord, LoraRecord, RankRecord
from convert.model import BaseModel
from convert.tensors import ITEM_SIZES as KNOWN_SIZES
from engines.manifest import (
    ComponentSpec,
    FileEntry,
    Latents,
    Manifest,
    Parity,
    Preset,
    TensorSpec,
)
from tests.fuzz.files import ITEM_SIZES, Entry, pack, pack_tensors

_DEMO_BASE: Final = Path(__file__).parents[2] / "demo" / "base"
_LIMIT: Final = 100_000

Shape = tuple[int, ...]

_NUMBERS = st.sampled_from([0, 1, 2, 4, 64, -1, 2**31, 2**62, 2**63, 2**64, 10**400, True, 1.5])
_NAMES = st.sampled_from(["", "a", "b", "\n", "\x00", "é", "\U0001f600", "__metadata__", "." * 9])
_TEXTS = st.one_of(_NAMES, st.text(max_size=20), st.sampled_from(["x"] * 9 + ["\ud800"]))
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, st.floats(), _TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(_TEXTS, inner, max_size=4)
    ),
    max_leaves=12,
)


@functools.cache
def base() -> BaseModel:
    """What LoRAs are matched with."""
    return read_base(_DEMO_BASE, "demo")


def _rarely(draw: st.DrawFn) -> bool:
    return draw(st.integers(0, 9)) == 9


def _damage(draw: st.DrawFn, content: bytes) -> bytes:
    """Rarely, change or cut a few bytes."""
    if not content or not _rarely(draw):
        return content
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
    return bytes(changed[: draw(st.sampled_from([len(changed), len(changed) // 2, 64]))])


@st.composite
def tensor_files(draw: st.DrawFn) -> bytes:
    """Files whose header is nearly right."""
    header: dict[str, Any] = {}
    position = 0
    for name in draw(st.lists(_NAMES, max_size=4, unique=True)):
        dtype = draw(st.sampled_from([*KNOWN_SIZES, "F16", "F32", "C64"]))
        shape = draw(st.lists(st.integers(0, 4), max_size=4))
        end = position + math.prod(shape) * KNOWN_SIZES.get(dtype, 1)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, end]}
        position = end
        if _rarely(draw):
            header[name][draw(st.sampled_from(["dtype", "shape", "data_offsets", "more"]))] = draw(
                _JSON
            )
    if draw(st.booleans()):
        header["__metadata__"] = draw(st.dictionaries(_NAMES, _NAMES, max_size=3))
    data, length = bytes(position), None
    if _rarely(draw):
        data += b"garbage"
    if _rarely(draw):
        length = draw(st.sampled_from([0, 8, 2**24, 2**24 + 1, 2**63, 2**64 - 1]))
    return _damage(draw, pack(header, data, length))


_LAYERS: Final = {
    "unet": (
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
        "down_blocks.0.attentions.0.transformer_blocks.0.norm1",
        "down_blocks.0.attentions.0.proj_in",
        "down_blocks.0.resnets.0.conv1",
        "conv_in",
    ),
    "text_encoder": ("text_model.encoder.layers.0.mlp.fc1", "text_model.final_layer_norm"),
}
_SPELLINGS: Final = {
    "unet": ("lora_unet_{}", "lycoris_{}", "unet.{}", "base_model.model.{}", "diffusion_model.{}"),
    "text_encoder": ("lora_te_{}", "lycoris_te_{}", "text_encoder.{}", "{}"),
}
_ODD_ROLES: Final = (
    *("lora_up.bias", "lora_A.weight", "lora_B.weight", "lora.down.weight", "lora.up.weight"),
    *("lora_magnitude_vector.weight", "b_norm", "oft_blocks", "bias_values", "on_input", "", "x"),
)
_SIZES = st.sampled_from([0, 1, 2, 3, 4, 8, 32, 64, 96, 384])
_CONTENTS = st.sampled_from([b"\0", b"\x3c", b"\x3c", b"\xff", b"\x7b", b"\x00\x7c", b"\x01\x00"])


def _kinds(shape: Shape, rank: int) -> dict[str, dict[str, Shape]]:
    """For each kind of module, shapes that fit a weight of this shape."""
    outputs, inputs, kernel = shape[0], shape[1] if len(shape) > 1 else 1, shape[2:]
    ones = (1,) * len(kernel)
    half, rest = max(1, outputs // 2), max(1, inputs // 2)
    low_rank: dict[str, Shape] = {
        "lora_down.weight": (rank, inputs, *kernel),
        "lora_up.weight": (outputs, rank, *ones),
    }
    halves: dict[str, Shape] = {"a": (outputs, rank), "b": (rank, inputs * math.prod(kernel))}
    cores: dict[str, Shape] = {"a": (rank, outputs), "b": (rank, inputs)}
    cores["t"] = (rank, rank, *kernel)
    return {
        "LoRA": low_rank,
        "DoRA": {**low_rank, "dora_scale": (outputs, *(1,) * (len(shape) - 1)), "alpha": ()},
        "LoCon": {
            "lora_down.weight": (rank, inputs, *ones),
            "lora_mid.weight": (rank, rank, *kernel),
            "lora_up.weight": (outputs, rank, *ones),
            "alpha": (),
        },
        "LoHa": {f"hada_w{i}_{end}": halves[end] for i in (1, 2) for end in "ab"},
        "Tucker LoHa": {
            f"hada_{name}": cores[name[0] if name[0] == "t" else name[-1]]
            for name in ("w1_a", "w1_b", "t1", "w2_a", "w2_b", "t2")
        },
        "LoKr": {"lokr_w1": (2, 2), "lokr_w2": (half, rest, *kernel), "alpha": ()},
        "low-rank LoKr": {
            "lokr_w1_a": (2, rank),
            "lokr_w1_b": (rank, 2),
            "lokr_w2_a": (half, rank),
            "lokr_w2_b": (rank, rest * math.prod(kernel)),
        },
        "Tucker LoKr": {
            "lokr_w1": (2, 2),
            "lokr_t2": (rank, rank, *kernel),
            "lokr_w2_a": (rank, half),
            "lokr_w2_b": (rank, rest),
        },
        "full": {"diff": shape, "diff_b": (outputs,)},
        "norm": {"w_norm": shape, "b_norm": (outputs,)},
        "IA3": {"weight": (outputs,), "on_input": ()},
    }


@st.composite
def _modules(draw: st.DrawFn) -> dict[str, Shape]:
    """The keys of one module, and the shapes of their tensors."""
    component = draw(st.sampled_from(sorted(_LAYERS)))
    layer = draw(st.sampled_from(_LAYERS[component]))
    shape = base().components[component].tensors[f"{layer}.weight"].shape
    kinds = _kinds(shape, draw(st.sampled_from([1, 2, 2, 4, 0])))
    tensors = dict(kinds[draw(st.sampled_from(sorted(kinds)))])
    if _rarely(draw):
        del tensors[draw(st.sampled_from(sorted(tensors)))]
    if _rarely(draw):
        tensors[draw(st.sampled_from(_ODD_ROLES))] = (2, 2)
    if _rarely(draw):
        wrong = tuple(draw(st.lists(_SIZES, max_size=5)))
        tensors[draw(st.sampled_from(sorted(tensors) or ["alpha"]))] = wrong
    if _rarely(draw):
        layer = draw(st.sampled_from(["no.such.layer", "", "x" * 300, "down_blocks"]))
    spelling = draw(st.sampled_from(_SPELLINGS[component]))
    name = spelling.format(layer.replace(".", "_") if spelling.startswith("l") else layer)
    return {f"{name}.{role}": sizes for role, sizes in tensors.items()}


@st.composite
def lora_files(draw: st.DrawFn) -> bytes:
    """Files with the keys of LoRAs, most of which fit the demo's base."""
    entries: dict[str, Entry] = {}
    for module in draw(st.lists(_modules(), min_size=1, max_size=3)):
        for key, shape in module.items():
            dtype = draw(st.sampled_from(["F16", "F32", "F16", "F32", *ITEM_SIZES]))
            size = math.prod(shape) * ITEM_SIZES[dtype]
            if size < 1 << 19:
                content = draw(_CONTENTS)
                entries[key] = (dtype, shape, (content * (size // len(content) + 1))[:size])
    if _rarely(draw):
        entries[draw(_NAMES.filter(lambda name: name != "__metadata__"))] = ("U8", (0,), b"")
    metadata = {}
    if _rarely(draw):
        metadata["ss_tag_frequency"] = json.dumps(draw(_JSON))
    if _rarely(draw):
        metadata["lora_adapter_metadata"] = json.dumps(draw(_peft_settings()))
    if _rarely(draw):
        name = draw(st.sampled_from(["ss_base_model_version", "modelspec.architecture"]))
        metadata[name] = draw(st.sampled_from(["sd_v1", "sdxl", "sd_v2", "", "flux", "\n"]))
    return _damage(draw, pack_tensors(entries, metadata))


@st.composite
def _peft_settings(draw: st.DrawFn) -> dict[str, Any]:
    start = draw(st.sampled_from(["", "unet.", "text_encoder."]))
    patterns = {"to_q": 2, "^down_blocks.0": 1.5}
    settings: dict[str, Any] = {f"{start}lora_alpha": 4, f"{start}alpha_pattern": patterns}
    if draw(st.booleans()):
        names = ("lora_alpha", "alpha_pattern", "use_rslora", "fan_in_fan_out", "peft_type")
        settings[start + draw(st.sampled_from(names))] = draw(_NUMBERS | _JSON)
    if _rarely(draw):
        settings[f"{start}alpha_pattern"] = draw(st.dictionaries(_TEXTS, _NUMBERS, max_size=3))
    return settings


def peft_configs() -> st.SearchStrategy[str]:
    """What may be in an adapter_config.json."""
    return st.one_of(_peft_settings().map(json.dumps), _JSON.map(json.dumps), texts("metadata"))


_PIECES: Final[Mapping[str, tuple[str, ...]]] = {
    "prompt": (
        *("(", ")", "[", "]", ":", "1.1", ":1.1)", ":.5)", ":-2.)", "\\", "\\(", "BREAK", "AND"),
        *("|", ",", " ", "\n", "a", "word", "9" * 400, "((((", "]]]]"),
        *("<lora:a:1>", "<lora:", "<lyco:a:1>", "<hypernet:a>", ">"),
    ),
    "metadata": (
        *("Steps: 20", "Negative prompt: ", "\n", ", ", ":", '"', '\\"', "Size: 8x8", "a", " "),
        *('{"revision": 1', ', "settings": {', "}", "[", "]", "{", "NaN", "1e999", "9" * 5000),
    ),
    "recipe": (
        *('base = "y"', "[[loras]]", "weight = inf", "weight = 1e999", "weight = nan", 'name = ""'),
        *("[presets.a.b]", "before = 1", "[defaults]", "steps = 0", "width = 7", "loras = []"),
        *("a = [", "]", "{", '"', "=", f"steps = {'9' * 5000}", f"weight = {'9' * 400}", "\x00"),
        *(
            'sha256 = "zz"',
            'source = "https://a/\\n"',
            'source = "http://[::"',
            "block_weights = [1]",
        ),
    ),
    "key": (
        *("lora_unet_", "lora_te_", "lycoris_", "base_model.model.", "unet.", "text_encoder."),
        *("down_blocks", "attn1", "to_q", "_lora.down.weight", ".lora_A.weight", ".alpha", "."),
        *("processor", "default", "weight", "_", "é", "\n", "model.diffusion_model.", "text_model"),
    ),
}
_RECIPE: Final = """\
name = "x"
base = "y"
[export]
dtype = "fp16"
[defaults]
steps = 20
[presets.cracked]
before = "a"
[[loras]]
name = "a"
source = "b"
weight = 1.0
"""


def texts(kind: str) -> st.SearchStrategy[str]:
    """Pieces of a grammar in any order, some of them many times over."""
    pieces = st.one_of(st.sampled_from(_PIECES[kind]), st.text(max_size=3))
    repeated = st.tuples(pieces, st.sampled_from([1, 1, 1, 1, 2, 90, 3000])).map(
        lambda pair: pair[0] * pair[1]
    )
    return st.lists(repeated, max_size=16).map("".join).map(lambda text: text[:_LIMIT])


@st.composite
def recipes(draw: st.DrawFn) -> str:
    """A recipe with some lines too many, and some too few."""
    lines = _RECIPE.splitlines()
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(lines) - 1))
        if draw(st.booleans()):
            lines.insert(place, draw(st.sampled_from(_PIECES["recipe"]) | st.text(max_size=9)))
        else:
            del lines[place]
    return "\n".join(lines)


@st.composite
def records(draw: st.DrawFn) -> bytes:
    """A bundle.json or fuse.json, some of whose values are others."""
    content = asdict(_MANIFEST) if draw(st.booleans()) else asdict(_RECORD)
    content = json.loads(json.dumps(content))
    for _ in range(draw(st.integers(0, 2))):
        _change(draw, content)
    return _damage(draw, json.dumps(content).encode())


def _change(draw: st.DrawFn, place: Any) -> None:
    """Take any way down, and replace, remove or add what is there."""
    while True:
        keys = range(len(place)) if isinstance(place, list) else sorted(place)
        if not keys:
            return
        key = draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and draw(st.integers(0, 3)):
            place = place[key]
            continue
        if _rarely(draw):
            del place[key]
        elif _rarely(draw) and isinstance(place, dict):
            place[draw(_TEXTS)] = draw(_JSON)
        else:
            place[key] = draw(_JSON)
        return


_RECORD: Final = FuseRecord(
    identity="0",
    recipe="x",
    base=BaseRecord("b", "f", "diffusers", 4, {"unet": ("F16",)}, {}, {"unet/x": "0"}),
    loras=(
        LoraRecord(
            name="l",
            sha256="0",
            config_sha256="",
            autov2="0",
            weight=0.6,
            text_encoder_weight=0.6,
            block_weights=(),
            ranks=(RankRecord("unet", "LoRA", 4, 1.0, 2),),
            coverage={"unet": Coverage(1, 2)},
            unmatched=(),
            trained_tags={"a": 1},
        ),
    ),
    dtype="fp16",
    tools={"torch": "2"},
    files={"x": FileEntry(1, "0")},
    presets={"cracked": Preset("a")},
)
_TENSOR: Final = TensorSpec("sample", "float16", ("batch", 4))
_MANIFEST: Final = Manifest(
    name="x",
    identity="0",
    tools={"torch": "2"},
    latents=Latents(4, 8, 0.18),
    components={"unet": ComponentSpec("unet/model.onnx", "float16", (_TENSOR,), (_TENSOR,))},
    files={"unet/model.onnx": FileEntry(1, "0")},
    provenance={"loras": [{"name": "l"}]},
    parity={"unet": (Parity("out_sample", 0.1, 0.1, 1.0, 0.2, passed=True),)},
)
