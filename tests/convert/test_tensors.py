"""Safetensors: what the library writes is read, what is written the library reads, faults named."""

import json
import os
import struct
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from convert.tensor_writer import write_tensor_file
from convert.tensors import open_tensor_file
from engines.errors import InputError, InternalError
from tests.waiting import PATIENCE

TENSOR = {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}


def _write(path: Path, header: Any, data: bytes) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_reads_what_the_library_writes(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 5),
        "b": torch.randn(7).to(torch.bfloat16),
        "scalar": torch.tensor(0.5, dtype=torch.float16),
        "empty": torch.zeros(0, 4),
    }
    save_file(tensors, tmp_path / "x.safetensors", {"k": "v"})
    file = open_tensor_file(tmp_path / "x.safetensors")
    assert file.metadata == {"k": "v"}
    assert {name: tensor.shape for name, tensor in file.tensors.items()} == {
        name: tuple(tensor.shape) for name, tensor in tensors.items()
    }
    for name, tensor in tensors.items():
        expected = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        assert bytes(file.tensors[name].read()) == expected


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str
)
def test_reads_scalars(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file({"s": torch.tensor(-12.5, dtype=dtype)}, tmp_path / "x.safetensors")
    assert open_tensor_file(tmp_path / "x.safetensors").tensors["s"].read_scalar() == -12.5


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    tensors = {"half": torch.randn(3).half(), "ünïcode": torch.randn(2, 2), "none": torch.zeros(0)}
    names = {torch.float16: "F16", torch.float32: "F32"}
    path = tmp_path / "x.safetensors"
    entry = write_tensor_file(
        path,
        {name: (names[t.dtype], tuple(t.shape)) for name, t in tensors.items()},
        lambda name: tensors[name].numpy().tobytes(),
        {"format": "pt"},
    )
    loaded = load_file(path)
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert (entry.size, entry.sha256) == (
        path.stat().st_size,
        sha256(path.read_bytes()).hexdigest(),
    )


def test_every_tensor_is_aligned(tmp_path: Path) -> None:
    layout = {"a": ("F16", (1,)), "b": ("F32", (3,)), "c": ("F64", (1,))}
    sizes = {"a": 2, "b": 12, "c": 8}
    write_tensor_file(tmp_path / "x", layout, lambda name: bytes(sizes[name]), {})
    tensors = open_tensor_file(tmp_path / "x").tensors
    assert [tensors["a"].offset % 2, tensors["b"].offset % 4, tensors["c"].offset % 8] == [0, 0, 0]


def test_a_wrong_number_of_bytes_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="3 bytes instead of 2"):
        write_tensor_file(tmp_path / "x", {"a": ("F16", (1,))}, lambda name: b"123", {})


def test_more_than_may_wait_is_written_in_order(tmp_path: Path) -> None:
    """Larger tensors than may wait, and smaller ones: 150 MB, so that pages are released too."""
    sizes = {f"t{i}": size for i, size in enumerate((1, 70_000_000, 5, 40_000_000, 40_000_000, 3))}
    made = {name: bytes([i + 1]) * size for i, (name, size) in enumerate(sizes.items())}
    layout = {name: ("U8", (size,)) for name, size in sizes.items()}
    entry = write_tensor_file(tmp_path / "x", layout, made.__getitem__, {})
    assert entry.sha256 == sha256((tmp_path / "x").read_bytes()).hexdigest()
    found = load_file(tmp_path / "x")
    assert found.keys() == made.keys()
    assert all(found[name].numpy().tobytes() == made[name] for name in made)


def test_what_several_threads_make_is_written_in_order(tmp_path: Path) -> None:
    made: list[str] = []
    later = threading.Event()

    def produce(name: str) -> bytes:
        if name == "t0":
            assert later.wait(PATIENCE)
        made.append(name)
        later.set()
        return name.encode()

    layout = {f"t{i}": ("U8", (2,)) for i in range(10)}
    entry = write_tensor_file(tmp_path / "x", layout, produce, {}, threads=3)
    assert made != sorted(made) == sorted(layout)
    content = (tmp_path / "x").read_bytes()
    assert content.endswith("".join(sorted(layout)).encode())
    assert entry.sha256 == sha256(content).hexdigest()


def test_a_fault_of_a_thread_is_raised_and_ends_the_others(tmp_path: Path) -> None:
    made: list[str] = []

    def produce(name: str) -> bytes:
        made.append(name)
        if name == "t003":
            raise InputError("no")
        if name > "t003":
            time.sleep(0.1)
        return b"1"

    layout = {f"t{i:03}": ("U8", (1,)) for i in range(1000)}
    with pytest.raises(InputError, match="no"):
        write_tensor_file(tmp_path / "x", layout, produce, {}, threads=2)
    assert len(made) < 100


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x10\0\0", "truncated"),
        (struct.pack("<Q", 500) + b'{"a":', "truncated"),
        (b"\x80\x02}q\x00X\x08\x00\x00\x00abcdefgh", "a pickle"),
        (b"PK\x03\x04\x14\x00\x08\x08\x00\x00", "zip archive"),
        (b"<!DOCTYPE html><html><body>Log in</body></html>", "HTML page"),
        (b"\n\n  <html><body>Log in</body></html>", "HTML page"),
        (b'{"error": "Unauthorized", "message": "no"}', "server's error message"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"just some text that is no tensor file", "not a safetensors file"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_tensor_file(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*gone\.safetensors"):
        open_tensor_file(tmp_path / "gone.safetensors")
    with pytest.raises(InputError, match="cannot be read"):
        open_tensor_file(tmp_path)


def test_truncation_is_told_from_other_damage(tmp_path: Path) -> None:
    path = _write(tmp_path / "x", {"a": TENSOR}, bytes(11))
    with pytest.raises(InputError, match=r"truncated, with .* of .* bytes"):
        open_tensor_file(path)
    path = _write(tmp_path / "x", {"a": TENSOR}, bytes(13))
    with pytest.raises(InputError, match="tensors end at"):
        open_tensor_file(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{nonsense}", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "no object"),
        (b'{"a":1,"a":2}', "twice"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a":[' + b"[]," * 300_000 + b"[]]}", "too many tensors"),
        (b'{"\\ud800":1}', "not JSON"),
        ({"__metadata__": {"a": 1}}, "metadata"),
        ({"a": []}, "not a tensor's"),
        ({"a": {**TENSOR, "more": 1}}, "not a tensor's"),
        ({"a": {**TENSOR, "dtype": "F4"}}, "unknown dtype"),
        ({"a": {**TENSOR, "dtype": ["F16"]}}, "unknown dtype"),
        ({"a": {**TENSOR, "shape": [2, -3]}}, "impossible shape"),
        ({"a": {**TENSOR, "shape": [2, True]}}, "impossible shape"),
        ({"a": {**TENSOR, "shape": [1 << 62, 4]}}, "impossible shape"),
        ({"a": {**TENSOR, "shape": [1] * 5000}}, "impossible shape"),
        ({"a": {**TENSOR, "shape": [1 << 61, 1 << 61]}}, "do not fit"),
        ({"a": {**TENSOR, "data_offsets": [0, 8]}}, "do not fit"),
        ({"a": {**TENSOR, "data_offsets": [12, 0]}}, "do not fit"),
        ({"a": {**TENSOR, "data_offsets": [0]}}, "do not fit"),
        ({"a": TENSOR, "b": {**TENSOR, "data_offsets": [6, 18]}}, "overlaps"),
        ({"a": {**TENSOR, "data_offsets": [4, 16]}}, "gap"),
    ],
)
def test_a_wrong_header_is_named(tmp_path: Path, header: Any, message: str) -> None:
    path = _write(tmp_path / "x", header, bytes(24))
    with pytest.raises(InputError, match=message):
        open_tensor_file(path)


def _shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes()[:-1] + b"x")
    other.replace(path)


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")


@pytest.mark.parametrize("change", [_shorten, _replace, _overwrite])
def test_a_change_after_the_header_was_read_is_an_error(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Even where the time of modification and, but for one case, the size say nothing of it."""
    path = _write(tmp_path / "x", {"a": TENSOR}, bytes(12))
    before = path.stat()
    tensor = open_tensor_file(path).tensors["a"]
    assert tensor.read() == bytes(12)
    time.sleep(0.02)  # the clock of file systems ticks every few milliseconds
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(InputError, match="was changed while it was in use"):
        tensor.read()
