"""Safetensors files that no library would write: any header, any length, any rest."""

import json
import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

ITEM_SIZES: Final = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1}
HEADER_LIMIT: Final = 1 << 24
"""The longest header that the converter reads."""

Entry = tuple[str, tuple[int, ...], bytes]
"""A tensor's dtype, shape and content."""


def pack(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A file with this header, which may be text, and a length of it that may be wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def pack_tensors(entries: Mapping[str, Entry], metadata: Mapping[str, str] | None = None) -> bytes:
    """A file that is whole."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name, (dtype, shape, content) in entries.items():
        assert len(content) == math.prod(shape) * ITEM_SIZES[dtype]
        end = position + len(content)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, end]}
        position = end
    return pack(header, b"".join(content for _, _, content in entries.values()))


def _tensor(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12], **changes}


def _many(pattern: str, count: int) -> bytes:
    """Empty tensors by the thousand, named by their number."""
    entry = '":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    names = (pattern.format(i) for i in range(count))
    return pack(("{" + ",".join(f'"{name}{entry}' for name in names) + "}").encode())


def _filled(start: bytes, unit: bytes, end: bytes) -> bytes:
    count = (HEADER_LIMIT - len(start) - len(end)) // len(unit)
    return pack(start + unit * count + end)


def _lora(metadata: Mapping[str, str], keys: int = 1) -> bytes:
    entries = {f"lora_unet_x{i}.alpha": ("F16", (), b"\0\0") for i in range(keys)}
    return pack_tensors(entries, metadata)


def _peft(alpha: int, patterns: Mapping[str, int], layers: int = 1) -> bytes:
    settings = {"unet.lora_alpha": alpha, "unet.alpha_pattern": patterns}
    entries: dict[str, Entry] = {}
    for i in range(layers):
        entries[f"unet.down_blocks.{i}.to_q.lora_A.weight"] = ("F16", (1, 1), b"\0\0")
    return pack_tensors(entries, {"lora_adapter_metadata": json.dumps(settings)})


HOSTILE: Final[dict[str, Callable[[], bytes]]] = {
    "nothing": lambda: b"",
    "half a length": lambda: b"\x10\0\0",
    "length 2^63": lambda: pack(b"{}", length=1 << 63),
    "length 2^64 - 1": lambda: pack(b"{}", length=(1 << 64) - 1),
    "length 0": lambda: pack(b"", b"abc"),
    "length beyond the end": lambda: pack({"a": _tensor()}, length=10_000),
    "no tensors": lambda: pack(b"{}"),
    "no object": lambda: pack(b"[[]]"),
    "spaces before": lambda: pack(b"   {}"),
    "deep dtype": lambda: pack(
        b'{"a":{"dtype":' + b"[" * 900 + b"]" * 900 + b',"shape":[],"data_offsets":[0,0]}}'
    ),
    "key twice": lambda: pack(b'{"a":1,"a":2}'),
    "field twice": lambda: pack(
        b'{"a":{"dtype":"F16","dtype":"F16","shape":[],"data_offsets":[0,2]}}', b"ab"
    ),
    "no UTF-8": lambda: pack(b'{"\xff\xfe":1}'),
    "UTF-16": lambda: pack("{}".encode("utf-16")),
    "byte order mark": lambda: pack(b"\xef\xbb\xbf{}"),
    "half a surrogate pair": lambda: pack(
        b'{"\\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'
    ),
    "NUL": lambda: pack(b"{}\0\0"),
    "not a number": lambda: pack(
        b'{"a":{"dtype":"F16","shape":[NaN],"data_offsets":[0,Infinity]}}'
    ),
    "offsets overlap": lambda: pack(
        {"a": _tensor(), "b": _tensor(data_offsets=[6, 18])}, bytes(18)
    ),
    "offsets out of range": lambda: pack({"a": _tensor(data_offsets=[1 << 40, (1 << 40) + 12])}),
    "offsets backwards": lambda: pack({"a": _tensor(data_offsets=[12, 0])}, bytes(12)),
    "offsets negative": lambda: pack({"a": _tensor(data_offsets=[-12, 0])}, bytes(12)),
    "offsets of 2^63": lambda: pack({"a": _tensor(data_offsets=[1 << 63, (1 << 63) + 12])}),
    "offsets are truths": lambda: pack(
        {"a": _tensor(shape=[], dtype="U8", data_offsets=[False, True])}, b"a"
    ),
    "shape overflows 64 bits": lambda: pack(
        {"a": _tensor(shape=[1 << 32, 1 << 32, 1], data_offsets=[0, 0])}
    ),
    "shape is huge": lambda: pack({"a": _tensor(shape=[1 << 61] * 8, data_offsets=[0, 1 << 61])}),
    "shape is huge and empty": lambda: pack(
        {"a": _tensor(shape=[1 << 61, 0], data_offsets=[0, 0])}
    ),
    "shape negative": lambda: pack({"a": _tensor(shape=[-2, -3])}, bytes(12)),
    "garbage behind": lambda: pack({"a": _tensor()}, bytes(12) + b"garbage"),
    "metadata not texts": lambda: pack({"__metadata__": {"a": {}}}),
    "metadata no object": lambda: pack({"__metadata__": 1}),
    "names break lines": lambda: pack({"lora_unet_\n\x1b[2J\u202e.alpha": _tensor()}, bytes(12)),
    "names are no words": lambda: pack(
        {"lora_unet_é\u0000\U0001f600.lora_down.weight": _tensor()}, bytes(12)
    ),
    "tags too large": lambda: _lora({"ss_tag_frequency": '{"a":{"b":Infinity,"c":1e400}}'}),
    "tags too deep": lambda: _lora({"ss_tag_frequency": "[" * 100_000}),
    "tags no text": lambda: _lora({"ss_tag_frequency": '{"a":{"\\ud800":1}}'}),
    "alpha beyond a float": lambda: _peft(10**400, {}),
    "alphas beyond a float": lambda: _peft(1, {"x": 10**400}),
    "deep below the limit": lambda: pack(b'{"a":' + b"[" * 100_000),
    "alpha is no number": lambda: pack_tensors({"lora_unet_x.alpha": ("F16", (), b"\x00\x7e")}),
    "alpha is a matrix": lambda: pack_tensors({"lora_unet_x.alpha": ("F16", (2, 1), bytes(4))}),
    "nothing but empty tensors": lambda: pack_tensors(
        {f"lora_unet_conv_in.{role}": ("F16", (0, 4, 3, 3), b"") for role in ("diff", "w_norm")}
    ),
}
"""Files of all kinds of malice, by what is wrong with them."""

LARGE: Final[dict[str, Callable[[], bytes]]] = {
    "deep arrays": lambda: _filled(b'{"a":', b"[", b""),
    "deep objects": lambda: _filled(b"", b'{"a":', b""),
    "wide arrays": lambda: _filled(b'{"a":[', b"[],", b"[]]}"),
    "wide objects": lambda: _filled(b'{"a":[', b"{},", b"{}]}"),
    "many keys": lambda: _many("{}", 43_000),
    "too many keys": lambda: _many("{}", 290_000),
    "many keys of a LoRA": lambda: _many("lora_unet_{}.alpha", 43_000),
    "many keys of PEFT": lambda: _many("unet.down_blocks.{}.to_q.lora_A.weight", 43_000),
    "many keys of one layer": lambda: _many("lora_unet_x.{}", 43_000),
    "one long key": lambda: _filled(b'{"', b"a", b'":1}'),
    "one long key of dots": lambda: _filled(
        b'{"', b"a.", b'lora_A.weight":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'
    ),
    "one long number": lambda: _filled(b'{"a":', b"9", b"}"),
    "one long fraction": lambda: _filled(b'{"a":0.', b"9", b"}"),
    "one long shape": lambda: _filled(
        b'{"a":{"dtype":"U8","shape":[', b"1,", b'1],"data_offsets":[0,1]}}'
    ),
    "tags of many folders": lambda: _lora(
        {"ss_tag_frequency": "{" + ",".join(f'"{i}":{{"t{i}":{i}}}' for i in range(100_000)) + "}"}
    ),
    "many alpha patterns for many layers": lambda: _peft(
        1, {f"to_q{i}": i for i in range(200_000)} | {"to_q": 1}, 40_000
    ),
}
"""Those that are as large as the limits allow, and some that are larger."""


def write(path: Path, content: bytes) -> Path:
    """Make a file of this content."""
    path.write_bytes(content)
    return path
