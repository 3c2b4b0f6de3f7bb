"""Files that go past the cache: whatever their size, and where the file system has no such way."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convert.direct_file import DirectFile

SIZES = (8, 4095, 0, 1, 9_000_000, 4 << 20, 3)
"""Below, at and above what is written at once; together no whole number of pages."""


def _write(path: Path) -> bytes:
    contents = [os.urandom(size) for size in SIZES]
    with DirectFile(path) as file:
        for content in contents:
            file.write(memoryview(content))
    return b"".join(contents)


def test_contents_of_any_size_follow_one_another(tmp_path: Path) -> None:
    expected = _write(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == expected


def test_an_older_file_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(30_000_000))
    expected = _write(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == expected


def _refusing_to_open(real: Callable[..., int]) -> Callable[..., int]:
    def call(path: Any, flags: int, *arguments: Any, **others: Any) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "as an old tmpfs")
        return real(path, flags, *arguments, **others)

    return call


def _refusing_to_write(real: Callable[..., int]) -> Callable[..., int]:
    import fcntl

    def call(descriptor: int, content: memoryview) -> int:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "as where blocks are larger than pages")
        return real(descriptor, content)

    return call


@pytest.mark.parametrize(
    ("name", "refusing"), [("open", _refusing_to_open), ("write", _refusing_to_write)]
)
def test_where_there_is_no_such_way_it_is_written_as_any_other(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    refusing: Callable[[Callable[..., int]], Callable[..., int]],
) -> None:
    monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    expected = _write(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == expected


def test_writes_that_take_a_part_are_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, content: real(file, content[:1_000_000]))
    expected = _write(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == expected


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="full"):
        _write(tmp_path / "x")
