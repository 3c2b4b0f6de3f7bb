"""Writing a safetensors file, tensor by tensor."""

import hashlib
import json
import math
import os
import struct
import sys
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Final, Self

from convert.tensors import ITEM_SIZES
from engines.errors import InternalError
from engines.manifest import FileEntry

WRITING_THREADS: Final = 2
"""The threads that `write_tensor_file` has beside its caller's."""

_FLUSH_BYTES: Final = 1 << 26
_PENDING_BYTES: Final = 1 << 26
"""What may wait to be written and hashed; a larger tensor waits alone."""


def write_tensor_file(
    path: Path,
    tensors: Mapping[str, tuple[str, tuple[int, ...]]],
    produce: Callable[[str], bytes | bytearray | memoryview],
    metadata: Mapping[str, str],
) -> FileEntry:
    """Write a safetensors file tensor by tensor, so that only some of them are in memory.

    While some are written and hashed, each by a thread of its own, the next is made.

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
    with path.open("wb") as file, _Takers(_Sink(file).write, digest.update) as takers:
        takers.give(start)
        for name in names:
            content = memoryview(produce(name)).cast("B")
            if content.nbytes != sizes[name]:
                raise InternalError(f"{name} has {content.nbytes} bytes instead of {sizes[name]}")
            takers.give(content)
    return FileEntry(len(start) + position, digest.hexdigest())


class _Takers:
    """Functions that are given one content after the other, each in a thread of its own."""

    def __init__(self, *takers: Callable[[bytes | memoryview], object]) -> None:
        self._takers = [(taker, ThreadPoolExecutor(1)) for taker in takers]
        self._pending: deque[tuple[int, list[Future[object]]]] = deque()

    def give(self, content: bytes | memoryview) -> None:
        """Let them have it, as soon as what they have yet to take leaves room."""
        self._wait(_PENDING_BYTES - len(content))
        futures = [thread.submit(taker, content) for taker, thread in self._takers]
        self._pending.append((len(content), futures))

    def _wait(self, most: int) -> None:
        while self._pending and sum(size for size, _ in self._pending) > most:
            for taken in self._pending.popleft()[1]:
                taken.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._wait(0)
        finally:
            for _taker, thread in self._takers:
                thread.shutdown(cancel_futures=True)


class _Sink:
    """A file that is brought to the disk while it is written, and does not stay in memory.

    Otherwise the disk would begin when all is written and has to be flushed, and gigabytes that
    nobody reads now would push out what others need.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._pending = 0

    def write(self, content: bytes | memoryview) -> None:
        self._file.write(content)
        self._pending += len(content)
        if self._pending >= _FLUSH_BYTES and sys.platform == "linux":
            # Pages that are not on the disk yet are sent there, and released at the next turn.
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            self._pending = 0
