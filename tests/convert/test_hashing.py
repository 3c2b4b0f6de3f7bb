"""The hashes of files, and what differs from a list of them."""

from hashlib import sha256
from pathlib import Path

import pytest

from convert.hashing import find_changed, hash_files, start_hashing
from engines.errors import InputError
from engines.manifest import FileEntry


def test_hashes_go_by_the_files_names(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"")
    files = {"x": tmp_path / "a", "y": tmp_path / "b"}
    expected = {"x": sha256(b"one").hexdigest(), "y": sha256(b"").hexdigest()}
    assert hash_files(files, progress=False) == expected
    assert start_hashing(files, progress=False).result(10) == expected


def test_file_that_is_gone_is_named(tmp_path: Path) -> None:
    files = {"x": tmp_path / "gone"}
    with pytest.raises(InputError, match="gone cannot be read: No such file"):
        hash_files(files, progress=False)
    with pytest.raises(InputError, match="gone cannot be read: No such file"):
        start_hashing(files, progress=False).result(10)


def test_every_change_is_found(tmp_path: Path) -> None:
    (tmp_path / "same").write_bytes(b"one")
    (tmp_path / "other").write_bytes(b"two")
    one = FileEntry(3, sha256(b"one").hexdigest())
    entries = {"same": one, "other": one, "gone": one}
    assert find_changed(tmp_path, entries, progress=False) == {
        "gone": "is missing",
        "other": "has another content than was written",
    }
