"""Outputs appear whole or not at all: write to a temporary sibling, then rename.

A crash at any point leaves the old output or the new one, never a mixture. Temporary siblings of
processes that are gone are removed by the next writer to the same place.
"""

import contextlib
import ctypes
import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from engines.errors import OutputError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextlib.contextmanager
def publish_directory(target: Path, *, force: bool, marker: str) -> Iterator[Path]:
    """Yield an empty temporary directory that becomes `target` when the block ends well.

    Args:
        target: where the finished directory appears.
        force: whether an existing output may be replaced.
        marker: a file that every finished output of this kind holds. A directory without it is
            not one of ours and is never replaced, `force` or not.

    Raises:
        OutputError: `target` exists and may not be replaced, or cannot be written.
    """
    check_replaceable(target, force=force, marker=marker)
    _make_parent(target)
    with _writing(target):
        _remove_abandoned(target)
        partial = _sibling(target)
        partial.mkdir()
        try:
            yield partial
            _sync_tree(partial)
            _move_into_place(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def publish_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; the file written there replaces it at the end.

    Raises:
        OutputError: the place cannot be written.
    """
    _make_parent(target)
    with _writing(target):
        _remove_abandoned(target)
        partial = _sibling(target)
        try:
            yield partial
            _sync(partial)
            partial.replace(target)
            _sync(target.parent)
        finally:
            partial.unlink(missing_ok=True)


def check_replaceable(target: Path, *, force: bool, marker: str) -> None:
    """Say before any work is done whether `target` may be written; see `publish_directory`."""
    with _writing(target):
        if not target.exists():
            return
        if not target.is_dir():
            raise OutputError(f"{target} is a file; give a directory for the output.")
        if not any(target.iterdir()):
            return
        if not (target / marker).is_file():
            raise OutputError(
                f"{target} is not empty and holds no {marker}, so it is not an output of this "
                "command; it is left untouched. Give another directory."
            )
        if not force:
            raise OutputError(f"{target} exists already. Add --force to replace it.")


def _sibling(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial-{os.getpid()}-{os.urandom(3).hex()}")


def _remove_abandoned(target: Path) -> None:
    """Remove temporary siblings of `target` whose process is gone."""
    pattern = re.compile(re.escape(f".{target.name}.partial-") + r"(\d+)-[0-9a-f]+$")
    for path in target.parent.iterdir():
        match = pattern.fullmatch(path.name)
        if match is None or _is_running(int(match[1])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _move_into_place(partial: Path, target: Path) -> None:
    """Rename `partial` to `target`; an older `target` ends up at `partial`, to be removed."""
    if not target.exists():
        partial.rename(target)
    elif not _exchange(partial, target):
        aside = _sibling(target)
        target.rename(aside)
        partial.rename(target)
        shutil.rmtree(aside, ignore_errors=True)
    _sync(target.parent)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two paths in one step (Linux renameat2); False where the system cannot."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    failed = libc.renameat2(
        _AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE
    )
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(code, os.strerror(code), str(second))


def _sync_tree(directory: Path) -> None:
    for path in directory.rglob("*"):
        if path.is_file():
            _sync(path)
    _sync(directory)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_parent(target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refusal(target, error) from error


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write near `target` into the user's error."""
    try:
        yield
    except OSError as error:
        place = error.filename
        if isinstance(place, str) and target.parent.resolve() not in Path(place).resolve().parents:
            raise
        if error.errno == errno.ENOENT:
            raise
        raise _refusal(target, error) from error


def _refusal(target: Path, error: OSError) -> OutputError:
    """What to tell the user; an error that says nothing about the place is raised again."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = "the disk is full; free some space and run the command again"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
        reason = "the place may not be written; choose another or change its permissions"
    elif error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        reason = "a part of the path is a file or directory already; choose another place"
    else:
        raise error
    return OutputError(f"Cannot write {target}: {reason}.")
