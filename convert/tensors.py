"""Safetensors files: a header that is trusted only after it was checked, and tensors read by it.

Tensors are read one at a time and not mapped: a mapped file counts as resident memory for as
long as it is open, and ends the process when another one truncates it.
"""

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from engines.errors import InputError
from engines.fields import parse_json

ITEM_SIZES: Final = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
"""Bytes per element of each dtype that the files of Stable Diffusion have."""

FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16"})

_NUMPY_DTYPES: Final = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "u1",
}
_MAX_HEADER: Final = 1 << 24
_MAX_BRACKETS: Final = 1 << 17
"""Three for each tensor, and some in the metadata; parsing millions takes seconds and gigabytes."""
_MAX_AXES: Final = 8
_OTHER_KINDS: Final = (
    (b"\x80", "a pickle from before torch 1.6: load it with torch and save it as safetensors"),
    (b"PK", "a zip archive (.ckpt, .pt or .bin)"),
    (b"GGUF", "GGUF, whose weights are quantised: get the file in fp16"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it"),
    (b"Rar!", "a RAR archive: unpack it"),
    (b"<", "an HTML page, probably of a login or an error: download the file itself"),
    (b"version https://git-lfs", "a Git LFS pointer: run `git lfs pull`"),
    (b'{"', "JSON, probably a server's error message"),
)


@dataclass(frozen=True)
class FileState:
    """What tells a file from itself before a change, and from what takes its place.

    The system moves `changed_ns` (ctime) on with every write, and nobody can set it back as they
    can the time of modification.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, file: IO[bytes]) -> "FileState":
        """The state of an open file."""
        found = os.fstat(file.fileno())
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(frozen=True)
class StoredTensor:
    """One tensor in a file: `size` bytes from `offset`, of a dtype in `ITEM_SIZES`.

    `state` is the file's at the time when its header was read: what is read later belongs to that
    header, and to the hash of the file that was taken in between.
    """

    file: Path
    state: FileState
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int

    def read(self) -> memoryview:
        """The tensor's bytes in memory of their own, little-endian and in row-major order.

        Raises:
            InputError: the file cannot be read, or has changed since its header was read.
        """
        content = np.empty(self.size, np.uint8).data  # a bytearray is filled with zeros
        try:
            with self.file.open("rb", buffering=0) as file:
                file.seek(self.offset)
                rest = content
                while len(rest) and (count := file.readinto(rest)):
                    rest = rest[count:]
                self._check_state(file)
        except OSError as error:
            raise InputError(f"{self.file} cannot be read: {error.strerror}.") from error
        return content

    def check_unchanged(self) -> None:
        """See that the file is the one whose header was read.

        Raises:
            InputError: it has changed, or cannot be read.
        """
        try:
            with self.file.open("rb", buffering=0) as file:
                self._check_state(file)
        except OSError as error:
            raise InputError(f"{self.file} cannot be read: {error.strerror}.") from error

    def _check_state(self, file: IO[bytes]) -> None:
        if FileState.of(file) != self.state:
            raise InputError(f"{self.file} was changed while it was in use. Run the command again.")

    def read_scalar(self) -> float:
        """The value of a tensor of one element."""
        content = bytes(self.read())
        if self.dtype == "BF16":
            return float(np.frombuffer(b"\0\0" + content, "<f4")[0])
        return float(np.frombuffer(content, _NUMPY_DTYPES[self.dtype])[0])


@dataclass(frozen=True)
class TensorFile:
    """A safetensors file whose header has been checked against its size."""

    path: Path
    tensors: dict[str, StoredTensor]
    metadata: dict[str, str]


def open_tensor_file(path: Path) -> TensorFile:
    """Read and check the header of a safetensors file.

    Raises:
        InputError: the file is missing, truncated, of another kind, or its header is wrong.
    """
    try:
        with path.open("rb") as file:
            state = FileState.of(file)
            start = file.read(64)
            length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else 0
            _check_kind(path, start, length, state.size)
            file.seek(8)
            content = file.read(length)
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        header = _parse_header(content)
        metadata = _check_metadata(header.pop("__metadata__", {}))
        tensors = {
            name: _check_tensor(path, state, name, value, 8 + length)
            for name, value in header.items()
        }
        _check_extent(tensors, 8 + length, state.size)
    except (_HeaderError, ValueError) as error:
        reason = str(error) if isinstance(error, _HeaderError) else "its header is not JSON"
        raise InputError(f"{path} is damaged: {reason}. Get the file again.") from error
    return TensorFile(path, tensors, metadata)


class _HeaderError(Exception):
    pass


def _check_kind(path: Path, start: bytes, length: int, size: int) -> None:
    if not size:
        raise InputError(f"{path} is empty. Get the file again.")
    text = start.lstrip()
    for mark, kind in _OTHER_KINDS:
        # A header's length below 16 MiB leaves zeros behind its third byte; text has none.
        if text.startswith(mark) and (length > _MAX_HEADER or len(start) < 8):
            raise InputError(f"{path} is not a safetensors file but {kind}.")
    if len(start) < 8 or (length <= _MAX_HEADER and 8 + length > size):
        raise InputError(f"{path} is truncated: not even its header is whole. Get the file again.")
    if length > _MAX_HEADER:
        raise InputError(f"{path} is not a safetensors file.")


def _parse_header(content: bytes) -> dict[str, Any]:
    if content.count(b"{") + content.count(b"[") > _MAX_BRACKETS:
        raise _HeaderError("its header names too many tensors")
    header = parse_json(content.decode(), _unique)
    if not isinstance(header, dict):
        raise _HeaderError("its header is no object")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise _HeaderError("its header names something twice")
    return content


def _check_metadata(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise _HeaderError("its metadata are not texts")
    return value


def _check_tensor(
    path: Path, state: FileState, name: str, value: object, start: int
) -> StoredTensor:
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise _HeaderError(f"the header's entry {name[:80]!r} is not a tensor's")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_SIZES:
        unknown = dtype[:20] if isinstance(dtype, str) else type(dtype).__name__
        raise _HeaderError(f"the tensor {name[:80]!r} has the unknown dtype {unknown!r}")
    if not _is_sizes(shape) or len(shape) > _MAX_AXES:
        raise _HeaderError(f"the tensor {name[:80]!r} has an impossible shape")
    size = math.prod(shape) * ITEM_SIZES[dtype]
    if not _is_sizes(offsets) or len(offsets) != 2 or offsets[1] - offsets[0] != size:
        raise _HeaderError(f"the tensor {name[:80]!r} has bytes that do not fit its shape")
    return StoredTensor(path, state, name, dtype, tuple(shape), start + offsets[0], size)


def _is_sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 62 for n in value)


def _check_extent(tensors: Mapping[str, StoredTensor], start: int, size: int) -> None:
    """The tensors fill the file from `start` to `size`, without gap or overlap."""
    position = start
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.offset, tensor.size)):
        if tensor.offset != position:
            raise _HeaderError(f"the tensor {tensor.name[:80]!r} leaves a gap or overlaps another")
        position += tensor.size
    if position > size:
        raise _HeaderError(f"it is truncated, with {size} of {position} bytes")
    if position < size:
        raise _HeaderError(f"it has {size} bytes, but its tensors end at {position}")
