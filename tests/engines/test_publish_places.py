"""Which names an output may have, what it never replaces, and what killed processes leave."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from engines.errors import OutputError
from engines.publish import (
    check_replaceable,
    exclusive,
    publish_directory,
    publish_file,
    resolve_target,
)

LONGEST = "x" * 251 + ".png"
"""The longest name that a file may have on Linux's disks."""


def _write(target: Path) -> None:
    with publish_file(target) as partial:
        partial.write_text("new")


def _kill_while_writing(target: Path) -> None:
    program = textwrap.dedent(
        f"""
        import os, signal
        from pathlib import Path
        from engines.publish import publish_file
        with publish_file(Path({str(target)!r})) as partial:
            partial.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -signal.SIGKILL


@pytest.mark.parametrize("by_link", [True, False])
def test_a_pipe_is_not_replaced(tmp_path: Path, *, by_link: bool) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    with pytest.raises(OutputError, match=r"pipe is no regular file, .* Give another name"):
        _write(tmp_path / "link" if by_link else pipe)
    assert pipe.is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]


def test_a_directory_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no regular file"):
        _write(tmp_path)


def test_the_longest_names_there_are(tmp_path: Path) -> None:
    _write(tmp_path / LONGEST)
    assert (tmp_path / LONGEST).read_text() == "new"
    with publish_directory(tmp_path / "y" / ("é" * 127), force=False, marker="x") as partial:
        (partial / "x").touch()
    assert (tmp_path / "y" / ("é" * 127) / "x").exists()


@pytest.mark.parametrize("name", [f"x{LONGEST}", f"new/x{LONGEST}", f"x{LONGEST}/new", "a/" * 3000])
def test_names_that_are_too_long(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"longer than the system allows; choose a shorter"):
        resolve_target(tmp_path / name)
    with pytest.raises(OutputError, match="longer than the system allows"):
        check_replaceable(tmp_path / name, force=False, marker="x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["loop", "loop/out", "loop/a/out"])
def test_links_in_a_circle(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OutputError, match="lead in a circle; choose another place"):
        resolve_target(tmp_path / name)
    with pytest.raises(OutputError, match="in a circle"):
        _write(tmp_path / name)
    assert (tmp_path / "loop").is_symlink()


def test_a_working_directory_that_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(OutputError, match="working directory was removed"):
        resolve_target(Path("out"))
    _write(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "new"


def test_what_killed_processes_left_goes_with_the_next_file(tmp_path: Path) -> None:
    """Whatever that is called; files of others stay, even with names like ours."""
    theirs = [".00001-7.png.lock", ".fracture-sd-ab.lock", ".fracture-sd-0123456789abcdef.txt"]
    for name in theirs:
        (tmp_path / name).write_text("a user's")
    for number in (1, 2):
        _kill_while_writing(tmp_path / f"0000{number}-7.png")
        assert len(list(tmp_path.iterdir())) == len(theirs) + 2
    _write(tmp_path / "00001-8.png")
    assert {path.name for path in tmp_path.iterdir()} == {*theirs, "00001-8.png"}


def test_the_locks_of_this_process_stay(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path / "other"),
        publish_directory(tmp_path / "out", force=False, marker="x") as partial,
    ):
        (partial / "x").touch()
        before = set(tmp_path.iterdir())
        _write(tmp_path / "file")
        assert set(tmp_path.iterdir()) == {*before, tmp_path / "file"}
    assert {path.name for path in tmp_path.iterdir()} == {"file", "out"}


def test_what_may_not_be_opened_stays(tmp_path: Path) -> None:
    """Such as a link, which leads to what is not ours."""
    (tmp_path / "precious").write_text("a user's")
    link = tmp_path / ".fracture-sd-0123456789abcdef.lock"
    link.symlink_to("precious")
    _write(tmp_path / "file")
    assert link.is_symlink()
    assert (tmp_path / "precious").read_text() == "a user's"
