"""Writing a large file straight to the disk, past the system's cache.

An output's gigabytes are brought to the disk before it is published, and hardly read before they
would have left the cache. Going through it, each byte is copied once more, pushes out what others
need, and is waited for at the end.
"""

import errno
import fcntl
import mmap
import os
from pathlib import Path
from typing import Final, Self

import numpy as np

_DIRECT: Final = getattr(os, "O_DIRECT", 0)
"""The flag of systems that have it, as Linux has; without it the file is written as any other."""

_BLOCK: Final = 1 << 22
"""What is written at once: whole pages, from memory that begins at a page."""


class DirectFile:
    """A new file at `path`, to which contents of any size are appended.

    A context manager, at whose end all is written; `os.fsync` is still needed for the last of it.

    Raises:
        OSError: the file cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags | _DIRECT, 0o666)
        except OSError as error:
            if error.errno != errno.EINVAL:  # the file system has no such way
                raise
            self._descriptor = os.open(path, flags, 0o666)
        self._block = np.frombuffer(mmap.mmap(-1, _BLOCK), np.uint8)
        self._filled = 0

    def write(self, content: bytes | memoryview) -> None:
        """Append `content`."""
        rest = np.asarray(memoryview(content))
        while rest.size:
            part = rest[: _BLOCK - self._filled]
            self._block[self._filled : self._filled + part.size] = part
            self._filled += part.size
            rest = rest[part.size :]
            if self._filled == _BLOCK:
                self._flush()

    def _flush(self) -> None:
        rest = self._block.data[: self._filled]
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except OSError as error:
                if error.errno != errno.EINVAL or not self._is_direct():
                    raise
                self._write_as_any_other()
        self._filled = 0

    def _is_direct(self) -> bool:
        return bool(fcntl.fcntl(self._descriptor, fcntl.F_GETFL) & _DIRECT)

    def _write_as_any_other(self) -> None:
        flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
        fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags & ~_DIRECT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._write_as_any_other()  # the last part is no whole number of pages
                self._flush()
        finally:
            os.close(self._descriptor)
