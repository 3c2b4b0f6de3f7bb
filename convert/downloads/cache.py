"""The cache of downloads: a directory per address, with a lock, a record and the file.

downloads/<sha256 of the address>/lock            held while a process works here
                                  record.json     what the finished file is
                                  file/<name>     the finished file
                                  partial         what has come so far
                                  partial.json    what it is a part of
"""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from convert.downloads.address import Address
from engines.cache import VARIABLE
from engines.errors import OutputError
from engines.fields import FieldError, parse_fields
from engines.publish import publish_file

MARGIN: Final = 256 << 20
"""Bytes that a download leaves free on the disk."""

_REVISION: Final = 1
_POLL_S: Final = 0.1
_LOGGER = logging.getLogger(__name__)
_Content = TypeVar("_Content")


@dataclass(frozen=True)
class Record:
    """What record.json says of a finished file; `url` is shown to people, never asked for."""

    url: str
    file: str
    size: int
    sha256: str
    etag: str
    revision: int = _REVISION


@dataclass(frozen=True)
class PartialRecord:
    """What partial.json says: the coming file's name, its size if known, and its validator."""

    file: str
    size: int | None
    validator: str
    revision: int = _REVISION


class Entry:
    """The place of one address in the cache, locked for this process."""

    def __init__(self, directory: Path, address: Address) -> None:
        self.address = address
        self.directory = directory
        self.partial = directory / "partial"

    def record(self) -> Record | None:
        """The finished file's record, or None where there is none that this version reads."""
        return _load(self.directory / "record.json", Record)

    def file(self, record: Record) -> Path:
        """The finished file."""
        return self.directory / "file" / record.file

    def begun(self) -> PartialRecord | None:
        """What is there of a download that broke off, or None where nothing can be continued."""
        partial = _load(self.directory / "partial.json", PartialRecord)
        return partial if partial and self.partial.is_file() else None

    def begin(self, partial: PartialRecord) -> None:
        """Start an empty part."""
        self.drop_partial()
        self.partial.touch()
        _save(self.directory / "partial.json", partial)

    def drop_partial(self) -> None:
        """Forget what has come so far."""
        (self.directory / "partial.json").unlink(missing_ok=True)
        self.partial.unlink(missing_ok=True)

    def finish(self, record: Record) -> Path:
        """Make the part the finished file, in the place of an earlier one."""
        file = self.file(record)
        (self.directory / "record.json").unlink(missing_ok=True)
        file.parent.mkdir(exist_ok=True)
        with self.partial.open("rb") as part:
            os.fsync(part.fileno())
        self.partial.replace(file)
        _save(self.directory / "record.json", record)
        (self.directory / "partial.json").unlink(missing_ok=True)
        for other in file.parent.iterdir():
            if other != file:
                other.unlink()
        return file

    def check_space(self, needed: int) -> None:
        """See that `needed` bytes fit on the disk and leave `MARGIN` free.

        Raises:
            OutputError: they do not.
        """
        free = shutil.disk_usage(self.directory).free
        if free < needed + MARGIN:
            raise OutputError(
                f"There is too little space in {self.directory.parent} for {self.address.shown}: "
                f"{readable_size(needed + MARGIN)} are needed, {readable_size(free)} are free. "
                f"Free some, or set {VARIABLE} to a directory with more."
            )


@contextlib.contextmanager
def open_entry(cache: Path, address: Address) -> Iterator[Entry]:
    """Yield the address's place in the cache; another process that works there is waited for.

    Raises:
        OutputError: the cache cannot be written, or the disk is full.
    """
    key = hashlib.sha256(address.url.encode()).hexdigest()
    directory = cache / "downloads" / key
    with _writing(cache):
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory / "lock", address):
            yield Entry(directory, address)


@contextlib.contextmanager
def _locked(path: Path, address: Address) -> Iterator[None]:
    """Hold the lock, which the system releases when the process ends, however it ends."""
    with path.open("a") as file:
        waiting = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    _LOGGER.info("waiting for another process that fetches %s", address.shown)
                waiting = True
                time.sleep(_POLL_S)
        yield


@contextlib.contextmanager
def _writing(cache: Path) -> Iterator[None]:
    """Turn the system's refusals to write in the cache into the user's error."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full; free some space and run the command again to go on"
        else:
            reason = error.strerror or type(error).__name__
        raise OutputError(
            f"The download cache {cache} cannot be used: {reason}. "
            f"{VARIABLE} names another directory."
        ) from error


def _load(path: Path, kind: type[_Content]) -> _Content | None:
    """A record, or None if it is missing or not one of this version's."""
    try:
        content = json.loads(path.read_bytes())
        if content["revision"] != _REVISION:
            return None
        return parse_fields(kind, content)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError, FieldError):
        _LOGGER.warning("%s is damaged and not used", path)
        return None


def _save(path: Path, content: Record | PartialRecord) -> None:
    with publish_file(path) as target:
        target.write_text(json.dumps(dataclasses.asdict(content), indent=1) + "\n")


def readable_size(count: int) -> str:
    """A number of bytes, for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
