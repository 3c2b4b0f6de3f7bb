"""Outputs appear whole or not at all, and nothing that is not ours is ever replaced."""

import errno
import logging
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from engines import publish
from engines.errors import OutputError
from engines.publish import TakenError, exclusive, publish_directory, publish_file

MARKER = "made.json"


def _publish(target: Path, text: str, *, force: bool = False) -> None:
    with publish_directory(target, force=force, marker=MARKER) as partial:
        (partial / MARKER).write_text(text)
        (partial / "deep").mkdir()
        (partial / "deep" / "file").write_text(text)


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_directory_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "a" / "out"
    with publish_directory(target, force=False, marker=MARKER) as partial:
        (partial / MARKER).write_text("x")
        assert not target.exists()
    assert _names(target) == [MARKER]
    assert _names(target.parent) == ["out"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with (
        pytest.raises(RuntimeError, match="half way"),
        publish_directory(target, force=False, marker=MARKER) as partial,
    ):
        (partial / MARKER).write_text("x")
        raise RuntimeError("half way")
    assert _names(tmp_path) == []


def test_an_error_leaves_the_old_output(tmp_path: Path) -> None:
    target = tmp_path / "out"
    _publish(target, "old")
    with (
        pytest.raises(RuntimeError, match="half way"),
        publish_directory(target, force=True, marker=MARKER) as partial,
    ):
        (partial / MARKER).write_text("new")
        raise RuntimeError("half way")
    assert (target / MARKER).read_text() == "old"
    assert _names(tmp_path) == ["out"]


def test_an_existing_output_needs_force(tmp_path: Path) -> None:
    target = tmp_path / "out"
    _publish(target, "old")
    with pytest.raises(OutputError, match="--force"):
        _publish(target, "new")
    assert (target / "deep" / "file").read_text() == "old"


@pytest.mark.parametrize("exchange", [True, False])
def test_force_replaces_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(publish, "_exchange", lambda first, second: False)
    target = tmp_path / "out"
    _publish(target, "old")
    (target / "stray").write_text("of the old output")
    _publish(target, "new", force=True)
    assert _names(target) == ["deep", MARKER]
    assert (target / "deep" / "file").read_text() == "new"
    assert _names(tmp_path) == ["out"]


def test_a_foreign_directory_is_never_replaced(tmp_path: Path) -> None:
    target = tmp_path / "photos"
    target.mkdir()
    (target / "holiday.jpg").write_text("precious")
    with pytest.raises(OutputError, match="left untouched"):
        _publish(target, "new", force=True)
    assert _names(target) == ["holiday.jpg"]


def test_an_empty_directory_may_be_filled(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    _publish(target, "new")
    assert (target / MARKER).read_text() == "new"


def test_a_file_in_the_way(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("a file")
    with pytest.raises(OutputError, match="is a file"):
        _publish(target, "new", force=True)
    with pytest.raises(OutputError, match="part of the path"):
        _publish(target / "below", "new")
    assert target.read_text() == "a file"


def test_full_disk_is_the_users_error(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="disk is full"),
        publish_directory(tmp_path / "out", force=False, marker=MARKER),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert _names(tmp_path) == []


def test_an_unreadable_input_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "inputs" / "file")
    with (
        pytest.raises(PermissionError),
        publish_directory(tmp_path / "results" / "out", force=False, marker=MARKER),
    ):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), elsewhere)


def test_killed_half_way_leaves_nothing_that_opens_and_is_cleaned_up(tmp_path: Path) -> None:
    target = tmp_path / "out"
    program = textwrap.dedent(
        f"""
        import os, signal
        from pathlib import Path
        from engines.publish import publish_directory
        with publish_directory(Path({str(target)!r}), force=False, marker={MARKER!r}) as partial:
            (partial / {MARKER!r}).write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not target.exists()
    lock, partial = _names(tmp_path)
    assert lock.endswith(".lock")
    assert partial.startswith(f"{lock.removesuffix('.lock')}.partial-")
    _publish(target, "whole")
    assert _names(tmp_path) == ["out"]


def _hold(target: Path) -> tuple[subprocess.Popen[str], Path]:
    """Another process that has locked `target` until its standard input ends, and its partial."""
    program = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        from engines.publish import exclusive
        target = Path({str(target)!r})
        with exclusive(target):
            (lock,) = target.parent.glob(".*.lock")
            partial = lock.with_suffix(".partial-00000000")
            partial.mkdir()
            print(partial, flush=True)
            sys.stdin.read()
            target.mkdir()
            (target / {MARKER!r}).write_text("the other's")
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().rstrip("\n"))


@pytest.mark.parametrize("force", [True, False])
def test_another_process_is_waited_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    force: bool,
) -> None:
    """Its temporary directory is left alone meanwhile, and its output is seen afterwards."""
    target = tmp_path / "out"
    process, partial = _hold(target)
    with process as other, caplog.at_level(logging.INFO):
        naps = []

        def nap(seconds: float) -> None:
            naps.append(seconds)
            with publish_file(tmp_path / "beside.json") as file:
                file.touch()
            (tmp_path / "beside.json").unlink()
            assert partial.is_dir()
            assert other.stdin is not None
            other.stdin.close()
            other.wait()

        monkeypatch.setattr("engines.publish.time.sleep", nap)
        if force:
            _publish(target, "ours", force=True)
        else:
            with pytest.raises(OutputError, match="exists already"):
                _publish(target, "ours")
    assert len(naps) == 1
    assert caplog.messages == [f"waiting for another process that writes {target}"]
    assert (target / MARKER).read_text() == ("ours" if force else "the other's")
    assert _names(tmp_path) == ["out"]


def test_what_holds_a_place_may_publish_there(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with exclusive(target):
        _publish(target, "first")
        with exclusive(target):
            _publish(target, "second", force=True)
        assert len(list(tmp_path.glob(".*.lock"))) == 1
    assert _names(tmp_path) == ["out"]


def test_where_nothing_may_be_written_there_is_nothing_to_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, *_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("engines.publish.os.open", refuse)
    with exclusive(tmp_path / "out"):
        pass


def test_a_link_to_an_output_still_leads_to_it(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "out")
    _publish(tmp_path / "link", "old")
    _publish(tmp_path / "link", "new", force=True)
    assert (tmp_path / "disk" / "out" / MARKER).read_text() == "new"
    assert _names(tmp_path) == ["disk", "link"]
    assert _names(tmp_path / "disk") == ["out"]


def test_a_mount_point_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path)
    with pytest.raises(OutputError, match="mount point"):
        _publish(tmp_path, "x")


def test_a_file_that_is_too_large_for_the_disk(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"larger than the disk's format or `ulimit -f`"),
        publish_directory(tmp_path / "out", force=False, marker=MARKER),
    ):
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    assert _names(tmp_path) == []


def test_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    target = tmp_path / "picture.png"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="half"), publish_file(target) as partial:
        partial.write_text("hal")
        raise RuntimeError("half")
    assert target.read_text() == "old"
    with publish_file(target) as partial:
        partial.write_text("new")
    assert target.read_text() == "new"
    assert _names(tmp_path) == ["picture.png"]


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_replaces_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    """Neither on disks that have hard links, where one step tells, nor on others."""

    def refuse(first: Path, second: Path) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(first), None, str(second))

    if not links:
        monkeypatch.setattr("engines.publish.os.link", refuse)
    target = tmp_path / "picture.png"
    with publish_file(target, replace=False) as partial:
        partial.write_text("first")
    with (
        pytest.raises(TakenError, match="exists already"),
        publish_file(target, replace=False) as partial,
    ):
        partial.write_text("second")
    assert target.read_text() == "first"
    assert _names(tmp_path) == ["picture.png"]


def test_a_file_in_a_directory_that_may_not_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with monkeypatch.context() as context:
        context.setattr(Path, "iterdir", refuse)
        with publish_file(tmp_path / "picture.png") as partial:
            partial.write_text("whole")
    assert _names(tmp_path) == ["picture.png"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_a_place_where_nothing_can_be_made(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="may not be written"):
        _publish(Path("/proc/fused/out"), "x")


def test_a_place_that_may_not_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out"

    def refuse(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(OutputError, match="may not be written"):
        publish.check_replaceable(target, force=False, marker=MARKER)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc")
def test_a_directory_where_nothing_can_be_made() -> None:
    with pytest.raises(OutputError, match="may not be written"):
        _publish(Path("/proc/out"), "new")
