"""Writing a safetensors file, tensor by tensor."""

import contextlib
import hashlib
import json
import math
import struct
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self

from convert.direct_file import DirectFile
from convert.tensors import ITEM_SIZES
from engines.errors import InternalError
from engines.manifest import FileEntry

Content = bytes | bytearray | memoryview

_AHEAD_BYTES: Final = 1 << 26
"""What may be made before its turn; a larger tensor is made alone."""
_PENDING_BYTES: Final = 1 << 26
"""What may wait to be written and hashed; a larger tensor waits alone."""


def write_tensor_file(
    path: Path,
    tensors: Mapping[str, tuple[str, tuple[int, ...]]],
    produce: Callable[[str], Content],
    metadata: Mapping[str, str],
    *,
    threads: int = 1,
) -> FileEntry:
    """Write a safetensors file tensor by tensor, so that only some of them are in memory.

    While some are written and hashed, each by a thread of its own, the next are made.

    Args:
        path: the file; it is overwritten.
        tensors: dtype and shape of every tensor, by name.
        produce: gives a tensor's bytes, little-endian and row-major; called once for each name.
        metadata: the header's `__metadata__`.
        threads: how many call `produce`, each for another name.

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
    with DirectFile(path) as file, _Takers(file.write, digest.update) as takers:
        takers.give(start)
        made = _make_ahead(names, sizes, produce, threads)
        with contextlib.closing(made):
            for name, content in zip(names, made, strict=True):
                if len(content) != sizes[name]:
                    raise InternalError(f"{name} has {len(content)} bytes instead of {sizes[name]}")
                takers.give(content)
    return FileEntry(len(start) + position, digest.hexdigest())


def _make_ahead(
    names: Sequence[str],
    sizes: Mapping[str, int],
    produce: Callable[[str], Content],
    threads: int,
) -> Generator[memoryview]:
    """The content for each name in turn, made by threads while earlier ones are taken."""
    pending: deque[tuple[int, Future[Content]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for name in names:
            while pending and sum(size for size, _ in pending) + sizes[name] > _AHEAD_BYTES:
                yield memoryview(pending.popleft()[1].result()).cast("B")
            pending.append((sizes[name], pool.submit(produce, name)))
        while pending:
            yield memoryview(pending.popleft()[1].result()).cast("B")
    finally:
        pool.shutdown(cancel_futures=True)


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
