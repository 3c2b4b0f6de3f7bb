"""Where pictures go, and what is refused before any work is done."""

import errno
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.errors import OutputError, SettingError
from engines.publish import publish_file
from runtime import outputs
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


@pytest.mark.parametrize("force", [True, False])
def test_a_pipe_is_never_replaced(tmp_path: Path, *, force: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "pipe.png").symlink_to("pipe")
    with pytest.raises(OutputError, match=r"pipe\.png is no regular file"):
        PictureOutput(tmp_path / "pipe.png", count=1, force=force)


def test_places_that_cannot_be_are_said_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    for out in (tmp_path / "loop.png", tmp_path / "loop.png" / "out"):
        with pytest.raises(OutputError, match="links lead in a circle"):
            PictureOutput(out, count=1, force=False)
    longest = "x" * 251 + ".png"
    assert PictureOutput(tmp_path / longest, count=1, force=False).write(b"", 1).exists()
    for out in (tmp_path / f"x{longest}", tmp_path / "new" / f"x{longest}"):
        with pytest.raises(OutputError, match="choose a shorter one"):
            PictureOutput(out, count=1, force=False)


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


def refuse_to_list(path: Path) -> Iterator[Path]:
    raise PermissionError(errno.EACCES, "Permission denied", str(path))


def test_a_directory_that_may_not_be_listed_takes_named_files_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        context.setattr(Path, "iterdir", refuse_to_list)
        with pytest.raises(OutputError, match=r"Cannot number pictures in .* may not be listed"):
            PictureOutput(tmp_path, count=1, force=False)
        PictureOutput(tmp_path / "cat.png", count=1, force=False).write(b"cat", 1)
    assert [file.name for file in tmp_path.iterdir()] == ["cat.png"]


def test_places_that_a_user_may_not_look_at() -> None:
    """In a process without root's rights, for which pytest's own directories are closed."""
    program = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from engines.errors import OutputError
        from runtime.outputs import PictureOutput
        os.chdir(sys.argv[1])
        os.mkdir("unlisted", 0o300)
        os.mkdir("closed", 0o600)
        if os.geteuid() == 0:
            for place in (".", "unlisted", "closed"):
                os.chown(place, 65534, 65534)
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        for out in ("unlisted/a.png", "unlisted/new", "unlisted", "closed/a.png", "closed/new"):
            try:
                print(PictureOutput(Path(out), count=1, force=False).write(b"", 7))
            except OutputError as error:
                print(error)
        os.chmod("unlisted", 0o700)
        os.chmod("closed", 0o700)
        """
    )
    with tempfile.TemporaryDirectory() as place:
        told = subprocess.run(
            [sys.executable, "-c", program, place], check=True, capture_output=True, text=True
        ).stdout.splitlines()
    assert told[:2] == ["unlisted/a.png", "unlisted/new/00001-7.png"]
    assert told[2].startswith("Cannot number pictures in unlisted: the directory may not be listed")
    for line, out in zip(told[3:], ("closed/a.png", "closed/new"), strict=True):
        assert line.startswith(f"Cannot write to {out}: closed may not be written.")


def test_writers_of_one_directory_replace_nothing_of_each_other(tmp_path: Path) -> None:
    def write() -> None:
        output = PictureOutput(tmp_path, count=25, force=True)
        for _ in range(25):
            output.write(b"", 7)

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == [f"{number:05}-7.png" for number in range(1, 76)]


@pytest.mark.parametrize("force", [True, False])
def test_a_file_that_appears_during_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, force: bool
) -> None:
    """In a directory the next number is taken, `force` or not; a named file needs `force`."""
    in_directory = PictureOutput(tmp_path, count=1, force=force)
    named = PictureOutput(tmp_path / "cat.png", count=1, force=force)

    def late(target: Path, *, replace: bool) -> object:
        if target.name in ("00001-7.png", "cat.png"):
            target.write_bytes(b"another's")
        return publish_file(target, replace=replace)

    monkeypatch.setattr(outputs, "publish_file", late)
    assert in_directory.write(b"ours", 7) == tmp_path / "00002-7.png"
    assert (tmp_path / "00001-7.png").read_bytes() == b"another's"
    if force:
        named.write(b"ours", 7)
    else:
        with pytest.raises(OutputError, match=r"cat\.png exists already\. Add --force"):
            named.write(b"ours", 7)
    assert (tmp_path / "cat.png").read_bytes() == (b"ours" if force else b"another's")
