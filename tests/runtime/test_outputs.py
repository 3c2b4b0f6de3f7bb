"""Where pictures go, and what is refused before any work is done."""

import os
from pathlib import Path

import pytest

from engines.errors import OutputError, SettingError
from runtime.outputs import PictureOutput


def test_a_directory_gets_new_numbered_files(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    first = PictureOutput(out, count=2, force=False)
    assert not out.exists(), "nothing is made before there is a picture"
    assert first.write(b"1", 42) == out / "00001-42.png"
    assert first.write(b"2", 43) == out / "00002-43.png"
    second = PictureOutput(out, count=1, force=True)
    assert second.write(b"3", 42) == out / "00003-42.png"
    assert sorted(file.read_bytes() for file in out.iterdir()) == [b"1", b"2", b"3"]


def test_numbers_go_on_from_the_highest(tmp_path: Path) -> None:
    for name in ("00007-1.png", "100000-1.png", "200000.png", "x00009-1.png"):
        (tmp_path / name).touch()
    assert PictureOutput(tmp_path, count=1, force=False).write(b"", 5).name == "100001-5.png"


def test_a_file_is_written_under_its_name(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "cat.PNG"
    assert PictureOutput(file, count=1, force=False).write(b"cat", 1) == file
    assert file.read_bytes() == b"cat"
    assert list(file.parent.iterdir()) == [file]


def test_an_existing_file_is_replaced_only_by_force(tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    file.write_bytes(b"old")
    with pytest.raises(OutputError, match=r"cat\.png exists already\. Add --force"):
        PictureOutput(file, count=1, force=False)
    assert file.read_bytes() == b"old"
    PictureOutput(file, count=1, force=True).write(b"new", 1)
    assert file.read_bytes() == b"new"


def test_one_file_takes_one_picture(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="3 pictures; give a directory"):
        PictureOutput(tmp_path / "cat.png", count=3, force=False)


def test_other_kinds_of_picture_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"pictures are PNG, JPEG or WebP"):
        PictureOutput(tmp_path / "cat.gif", count=1, force=False)


def test_a_directory_may_have_a_dot_in_its_name(tmp_path: Path) -> None:
    named_like_a_file = tmp_path / "set.png"
    named_like_a_file.mkdir()
    for out in (tmp_path / "v1.5", named_like_a_file):
        assert PictureOutput(out, count=1, force=False).write(b"", 1).parent == out


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(OutputError, match="file is a file; give a directory"):
        PictureOutput(file, count=1, force=False)
    for out in (file / "cat.png", file / "deep" / "out"):
        with pytest.raises(OutputError, match=r"file is a file\. Choose another place"):
            PictureOutput(out, count=1, force=False)


def test_a_place_that_may_not_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="may not be written"):
        PictureOutput(tmp_path / "cat.png", count=1, force=False)
