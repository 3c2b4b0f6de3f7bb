"""Files of torch.save (.ckpt, .pt, .pth, .bin): where each tensor lies, without its values.

The pickle inside is read by torch's own restricted unpickler (`weights_only=True`), which builds
tensors and plain containers and runs no code of the file's choosing.
"""

import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch
from torch._subclasses import FakeTensorMode

from convert.tensors import ITEM_SIZES, FileState, StoredTensor, TensorFile
from engines.errors import InputError, InternalError

_DTYPES: Final = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_MAX_PICKLE: Final = 1 << 27
_LOCAL_HEADER: Final = struct.Struct("<4s22xHH")
_DEPTH: Final = 3


class _Inert:
    """Stands for an object of a trainer's bookkeeping; takes any state and keeps none."""

    def __new__(cls, *_: object) -> "_Inert":
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


class _Parameters(dict[str, object]):
    """Stands for torch's ParameterDict, in which old embeddings have their vectors."""

    def __setstate__(self, state: object) -> None:
        parameters = state.get("_parameters") if isinstance(state, Mapping) else None
        if isinstance(parameters, Mapping):
            self.update(parameters)


_PARAMETERS: Final = "torch.nn.modules.container.ParameterDict"

_BOOKKEEPING: Final = (
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
)
"""What else the checkpoints of Stable Diffusion's own trainer name, beside their weights."""


def open_torch_file(path: Path) -> TensorFile:
    """Read the names, dtypes, shapes and places of the tensors in a file of torch.save.

    A wrapping `state_dict` is taken off; the names of other nested tensors are joined by dots.

    Raises:
        InputError: the file is damaged, holds more than weights, or is none of torch.save's.
    """
    state = _read_state(path)
    records = _read_records(path)
    tensors: dict[str, StoredTensor] = {}
    for name, tensor in _named_tensors(_unwrap(_load(path)), _DEPTH):
        tensors[name] = _stored(path, state, name, tensor, records)
    return TensorFile(path, tensors, {})


def _read_state(path: Path) -> FileState:
    try:
        with path.open("rb") as file:
            return FileState.of(file)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def _read_records(path: Path) -> dict[int, int]:
    """The size of each record of the archive by where its content starts.

    Raises:
        InputError: it is no whole archive of torch.save.
    """
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            infos = archive.infolist()
            pickles = [info for info in infos if info.filename.endswith("data.pkl")]
            if len(pickles) != 1:
                raise InputError(
                    f"{path} is a zip archive that torch.save did not write. Unpack it and give "
                    "the file inside."
                )
            if pickles[0].file_size > _MAX_PICKLE or any(info.compress_type for info in infos):
                raise InputError(
                    f"{path} is damaged, or packed again by another program. Get the file again."
                )
            for info in infos:
                if info.filename.endswith("/byteorder") and archive.read(info) != b"little":
                    raise InputError(
                        f"{path} was written by a big-endian machine; load and save it again with "
                        "torch on this one."
                    )
            return {_content_offset(file, info): info.file_size for info in infos}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, struct.error) as error:
        raise InputError(f"{path} is truncated or damaged. Get the file again.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def _content_offset(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Where a record's content starts: after its own header, which may be padded."""
    file.seek(info.header_offset)
    mark, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    if mark != b"PK\3\4":
        raise zipfile.BadZipFile
    return info.header_offset + _LOCAL_HEADER.size + int(name) + int(extra)


def _load(path: Path) -> object:
    """The file's content, its tensors without their values."""
    try:
        known: list[Any] = [*((_Inert, name) for name in _BOOKKEEPING), (_Parameters, _PARAMETERS)]
        with torch.serialization.safe_globals(known):
            foreign = torch.serialization.get_unsafe_globals_in_checkpoint(os.fspath(path))
            if not foreign:
                with FakeTensorMode():
                    return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever a damaged pickle leads it to
        raise InputError(f"{path} is damaged: torch cannot read it. Get the file again.") from error
    raise InputError(
        f"{path} is a pickle that holds more than weights ({', '.join(sorted(foreign))}) and could "
        "run any code when opened. Save its weights as safetensors where you trust it."
    )


def _unwrap(content: object) -> object:
    while isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    return content


def _named_tensors(content: object, depth: int) -> Iterator[tuple[str, torch.Tensor]]:
    if not isinstance(content, Mapping):
        return
    for key, value in content.items():
        if not isinstance(key, str):
            continue
        if isinstance(value, torch.Tensor):
            yield key, value
        elif depth > 1:
            for name, tensor in _named_tensors(value, depth - 1):
                yield f"{key}.{name}", tensor


def _stored(
    path: Path, state: FileState, name: str, tensor: torch.Tensor, records: Mapping[int, int]
) -> StoredTensor:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{path} is damaged: {name[:80]!r} is no text. Get the file again."
        ) from None
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None or tensor.layout != torch.strided:
        raise InputError(
            f"{path}: {name[:80]} is no plain tensor, but {tensor.dtype} and {tensor.layout}."
        )
    if not tensor.is_contiguous():
        raise InputError(
            f"{path}: {name[:80]} is not stored in row-major order. Load the file with torch, make "
            "its tensors contiguous, and save it again."
        )
    start: int | None = tensor.untyped_storage()._checkpoint_offset
    if start is None:
        raise InternalError(f"torch did not say where {name} lies")
    skipped = int(tensor.storage_offset()) * ITEM_SIZES[dtype]
    size = tensor.numel() * ITEM_SIZES[dtype]
    if skipped + size > records.get(start, -1) or start + skipped + size > state.size:
        raise InputError(
            f"{path} is damaged, or packed again by another program: {name[:80]} is not where it "
            "should be. Get the file again."
        )
    return StoredTensor(path, state, name, dtype, tuple(tensor.shape), start + skipped, size)
