"""Outputs appear whole or not at all: write to a temporary sibling, then rename.

A crash at any point leaves the old output or the new one, never a mixture. One process at a time
writes to a place; it holds a lock, which the system releases however the process ends, and begins
by removing what killed ones left in the directory.
"""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import logging
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from engines.errors import OutputError

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_POLL_S: Final = 0.1
_LOCK: Final = "lock"
_TEMPORARY: Final = re.compile(r"(\.fracture-sd-[0-9a-f]{16})\.(?:lock|partial-[0-9a-f]{8})")

_log = logging.getLogger(__name__)


class TakenError(OutputError):
    """There is a file already where a new one was to appear."""


@contextlib.contextmanager
def publish_directory(target: Path, *, force: bool, marker: str) -> Iterator[Path]:
    """Yield an empty temporary directory that becomes `target` when the block ends well.

    Args:
        target: where the finished directory appears; another process that publishes there is
            waited for.
        force: whether an existing output may be replaced.
        marker: a file that every finished output of this kind holds. A directory without it is
            not one of ours and is never replaced, `force` or not.

    Raises:
        OutputError: `target` exists and may not be replaced, or cannot be written.
    """
    target = resolve_target(target)
    check_replaceable(target, force=force, marker=marker)
    with exclusive(target), _writing(target):
        check_replaceable(target, force=force, marker=marker)
        partial = _sibling(target)
        partial.mkdir()
        try:
            yield partial
            _sync_tree(partial)
            _move_into_place(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def publish_file(target: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `target`; the file written there replaces it at the end.

    Args:
        target: where the finished file appears.
        replace: whether it may take the place of a file that is there by then.

    Raises:
        TakenError: it may not, and there is one.
        OutputError: the place cannot be written, or what is there is no regular file.
    """
    target = resolve_target(target)
    with exclusive(target), _writing(target):
        partial = _sibling(target)
        try:
            yield partial
            _sync(partial)
            if replace:
                if target.exists() and not target.is_file():
                    raise irregular(target)
                partial.replace(target)
            else:
                _move_to_free(partial, target)
            _sync_directory(target.parent)
        finally:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive(target: Path) -> Iterator[None]:
    """Keep every other process from publishing at `target`; wait while one does.

    What holds `target` may publish there. Where the directory that it is in may not be written,
    nobody can replace `target` and there is nothing to hold.

    Raises:
        OutputError: the directory cannot be made.
    """
    target = resolve_target(target)
    _make_parent(target)
    place = _beside(target, _LOCK)
    with _writing(target):
        descriptor = None if place in _held.places else _lock(place, target)
    if descriptor is None:
        yield
        return
    _held.places.add(place)
    try:
        with _writing(target):
            _remove_abandoned(place)
        yield
    finally:
        _held.places.remove(place)
        place.unlink(missing_ok=True)
        os.close(descriptor)


def resolve_target(target: Path) -> Path:
    """`target` as an absolute path without links, whether there is something or not.

    Raises:
        OutputError: nothing can have this name: a part of it is too long, its links lead in a
            circle, or it is relative and the working directory was removed.
    """
    try:
        whole = target.absolute()
    except FileNotFoundError as error:
        raise OutputError(
            f"Cannot write {target}: the working directory was removed. Change to another one or "
            "give an absolute path."
        ) from error
    try:
        place = whole
        while not _is_there(place) and place != place.parent:
            place = place.parent
        for name in whole.relative_to(place).parts:
            _is_there(place / name)
    except OSError as error:
        raise _refusal(target, error) from error
    return whole.resolve()


def _is_there(path: Path) -> bool:
    """Whether there is something, as far as one may see; any other error is raised."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False
    return True


def irregular(target: Path) -> OutputError:
    """What to tell who names a device, a pipe or a directory as a file to write."""
    return OutputError(f"{target} is no regular file, so it is left untouched. Give another name.")


class _Held(threading.local):
    """The locks that a thread has."""

    def __init__(self) -> None:
        self.places: set[Path] = set()


_held: Final = _Held()


def _lock(place: Path, target: Path) -> int | None:
    """Open and lock the file `place`, which its holder removes; None where none may be made."""
    waiting = False
    while True:
        try:
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                return None
            if error.errno == errno.ENOENT:  # as in /proc, where nothing can be made
                raise _refusal(target, error) from error
            raise
        locked = _try_lock(descriptor)
        if locked and _is_at(place, descriptor):
            return descriptor
        os.close(descriptor)
        if not locked:
            if not waiting:
                _log.info("waiting for another process that writes %s", target)
            waiting = True
            time.sleep(_POLL_S)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(place: Path, descriptor: int) -> bool:
    """Whether the open file is still the one at `place`, and not one that was removed."""
    try:
        return os.path.samestat(place.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def check_replaceable(target: Path, *, force: bool, marker: str) -> None:
    """Say before any work is done whether `target` may be written.

    Args:
        target: as in `publish_directory`.
        force: likewise.
        marker: likewise.

    Raises:
        OutputError: it may not.
    """
    resolve_target(target)
    with _writing(target):
        if not target.exists():
            return
        if not target.is_dir():
            raise OutputError(f"{target} is a file; give a directory for the output.")
        if target.is_mount():
            raise OutputError(
                f"{target} is a mount point, which cannot be replaced in one step; give a "
                "directory inside it."
            )
        if not any(target.iterdir()):
            return
        if not (target / marker).is_file():
            raise OutputError(
                f"{target} is not empty and holds no {marker}, so it is not an output of this "
                "command; it is left untouched. Give another directory."
            )
        if not force:
            raise OutputError(f"{target} exists already. Add --force to replace it.")


def _beside(target: Path, ending: str) -> Path:
    """A short name for what belongs to `target`, which may have the longest name there can be."""
    key = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    return target.with_name(f".fracture-sd-{key}.{ending}")


def _sibling(target: Path) -> Path:
    return _beside(target, f"partial-{os.urandom(4).hex()}")


def _remove_abandoned(own: Path) -> None:
    """Remove what killed processes left in the directory of the lock `own`, which is held.

    Temporary files belong to a lock: where that is held or can be had, they are no one's. In a
    directory that may not be listed they cannot be found, and stay.
    """
    left: dict[Path, list[Path]] = {}
    with contextlib.suppress(PermissionError):
        for path in own.parent.iterdir():
            if match := _TEMPORARY.fullmatch(path.name):
                left.setdefault(path.with_name(f"{match[1]}.{_LOCK}"), []).append(path)
    for place, paths in left.items():
        partials = [path for path in paths if path != place]
        if place == own:
            _remove(partials)
        elif (descriptor := _take(place)) is not None:
            _remove([*partials, place])
            os.close(descriptor)


def _take(place: Path) -> int | None:
    """Lock the file `place` too; None where a living process has it, or it may not be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        with contextlib.suppress(OSError):
            if _try_lock(descriptor) and _is_at(place, descriptor):
                return descriptor
        os.close(descriptor)
    return None


def _remove(paths: list[Path]) -> None:
    """Remove files and directories as far as they may be."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _move_to_free(partial: Path, target: Path) -> None:
    """Give a file the name `target`, in one step that fails if there is something by that name.

    Disks without hard links leave it to the lock, which other programs do not know.
    """
    try:
        os.link(partial, target)
    except OSError as error:
        if os.path.lexists(target):
            raise TakenError(f"{target} exists already. Add --force to replace it.") from error
        partial.replace(target)


def _move_into_place(partial: Path, target: Path) -> None:
    """Rename `partial` to `target`; an older `target` ends up at `partial`, to be removed."""
    if not target.exists():
        partial.rename(target)
    elif not _exchange(partial, target):
        aside = _sibling(target)
        target.rename(aside)
        partial.rename(target)
        shutil.rmtree(aside, ignore_errors=True)
    _sync_directory(target.parent)


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
    for path in (*directory.rglob("*"), directory):
        _sync(path)


def _sync_directory(directory: Path) -> None:
    """Make the names in a directory last; one that may not be listed cannot be opened for that."""
    with contextlib.suppress(PermissionError):
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
    elif error.errno == errno.EFBIG:
        reason = (
            "a file is larger than the disk's format or `ulimit -f` allows; choose another place"
        )
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
        reason = "the place may not be written; choose another or change its permissions"
    elif error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY):
        reason = "a part of the path is a file or directory already; choose another place"
    elif error.errno == errno.ENAMETOOLONG:
        reason = "the name is longer than the system allows; choose a shorter one"
    elif error.errno == errno.ELOOP:
        reason = "its links lead in a circle; choose another place"
    elif error.errno in (errno.EBUSY, errno.ENOLCK, errno.EOPNOTSUPP):
        reason = f"the system says {os.strerror(error.errno)!r}; choose another place"
    else:
        raise error
    return OutputError(f"Cannot write {target}: {reason}.")
