"""Writing a safetensors file, tensor by tensor."""

import hashlib
import json
import math
import struct
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from convert.tensors import ITEM_SIZES
from engines.errors import InternalError
from engines.manifest import FileEntry

WRITING_THREADS: Final = 2
"""The threads that `write_tensor_file` has beside its caller's."""


def write_tensor_file(
    path: Path,
    tensors: Mapping[str, tuple[str, tuple[int, ...]]],
    produce: Callable[[str], bytes | bytearray | memoryview],
    metadata: Mapping[str, str],
) -> FileEntry:
    """Write a safetensors file tensor by tensor, so that two of them at a time are in memory.

    While one is written and hashed, each by a thread of its own, the next is made.

    Args:
        path: the file; it is overwritten.
        tensors: dtype and shape of every tensor, by name.
        produce: gives a tensor's bytes, little-endian and row-major; called once for each name.
        metadata: the header's `__metadata__`.

    Returns:
        The file's size and sha256.

    Raises:
        InternalError: `produce` gave another number of bytes than dtype and shape make.
    """
    # Wider elements first, as the safetensors library does: every tensor is then aligned.
    names = sorted(tensors, key=lambda name: (-ITEM_SIZES[tensors[name][0]], name))
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    sizes = {}
    position = 0
    for name in names:
        dtype, shape = tensors[name]
        sizes[name] = math.prod(shape) * ITEM_SIZES[dtype]
        offsets = [position, position + sizes[name]]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
        position += sizes[name]
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    start = struct.pack("<Q", len(text)) + text
    digest = hashlib.sha256()
    with path.open("wb") as file, ThreadPoolExecutor(WRITING_THREADS) as threads:
        takers = (file.write, digest.update)
        pending = [threads.submit(take, start) for take in takers]
        for name in names:
            content = memoryview(produce(name)).cast("B")
            if content.nbytes != sizes[name]:
                raise InternalError(f"{name} has {content.nbytes} bytes instead of {sizes[name]}")
            for taken in pending:
                taken.result()
            pending = [threads.submit(take, content) for take in takers]
        for taken in pending:
            taken.result()
    return FileEntry(len(start) + position, digest.hexdigest())
