"""Fetch one file by its address into the cache, or find it there.

The order of trust: the file is refused by its first bytes if it is no weights; it is whole if its
length is the announced one and its own structure agrees; it is the right one if its sha256 is the
expected one. Only then does it appear in the cache under its name.
"""

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tqdm import tqdm

from convert.downloads.address import Address, parse_address
from convert.downloads.cache import Entry, PartialRecord, Record, open_entry, readable_size
from convert.downloads.content import HEAD, WEIGHTS, IncompleteFileError, check_whole, kind_of
from convert.downloads.credentials import SITES, Site, find_token, site_of, split_token
from convert.downloads.limits import DEFAULT_LIMITS, Limits
from convert.downloads.names import choose_name
from convert.downloads.refusals import not_a_file, refused
from convert.downloads.transfer import (
    InterruptedTransferError,
    RangeRefusedError,
    RefusedError,
    Reply,
    Request,
    open_reply,
)
from engines.errors import InputError

_GOOD_PIECE: Final = 16 << 20
_HASHED: Final = 1 << 22
_BAR_FROM: Final = 100 << 20
_LOGGER = logging.getLogger(__name__)


def fetch(
    url: str,
    cache: Path,
    *,
    sha256: str = "",
    name: str = "",
    limits: Limits = DEFAULT_LIMITS,
    sites: Sequence[Site] = SITES,
    progress: bool = True,
) -> Path:
    """The local path of a file of weights, fetched unless the cache has it undamaged.

    Args:
        url: its http or https address. A token in a `token=` field is taken out of it.
        cache: the directory of all downloads, see `engines.cache.cache_directory`.
        sha256: the expected hash as 64 lower-case hexadecimal digits, or empty for any content.
        name: the file's name in the cache, or empty for the server's.
        limits: how long to wait, how often to try.
        sites: the sites for which the user may have tokens.
        progress: whether to show progress bars.

    Raises:
        InputError: the address is wrong, the server cannot be reached, refuses, or sends
            something else than the file.
        OutputError: the cache cannot be written, or the disk is too small.
        SettingError: the user's token is malformed.
    """
    address = parse_address(url)
    site = site_of(address, sites)
    given = None
    if site is not None:
        address, given = split_token(address)
    with open_entry(cache, address) as entry:
        found = _cached(entry, sha256, progress=progress)
        if found is not None:
            return found
        token = find_token(site, address, given) if site is not None else None
        return _Download(entry, address, site, token, sha256, name, limits, progress).run()


def _cached(entry: Entry, sha256: str, *, progress: bool) -> Path | None:
    """The finished file, if it is there, as it was, and the expected one."""
    record = entry.record()
    if record is None:
        return None
    path = entry.file(record)
    if not path.is_file() or _hash(path, progress=progress) != record.sha256:
        _LOGGER.warning("%s is missing or damaged; it is fetched again", path)
        return None
    if sha256 and record.sha256 != sha256:
        _LOGGER.warning("%s is not the expected file; it is fetched again", path)
        return None
    return path


@dataclass
class _Download:
    """One download: attempts until the file is there, or until patience ends."""

    entry: Entry
    address: Address
    site: Site | None
    token: str | None = field(repr=False)
    sha256: str
    name: str
    limits: Limits
    progress: bool

    def run(self) -> Path:
        """Fetch, check and keep the file."""
        _LOGGER.info("fetching %s", self.address.shown)
        continued = self._receive()
        try:
            return self._keep()
        except InputError:
            if not continued:
                raise
            _LOGGER.warning("what was continued does not fit together; fetching all of it again")
        self._receive()
        return self._keep()

    def _receive(self) -> bool:
        """Fill the part; True where it was put together from more than one answer."""
        failures, furthest = 0, 0
        while True:
            try:
                return self._attempt()
            except InterruptedTransferError as fault:
                have = self._have()
                failures = 1 if have >= furthest + _GOOD_PIECE else failures + 1
                furthest = max(furthest, have)
                if failures >= self.limits.attempts:
                    raise InputError(self._gave_up(fault, failures)) from None
                pause_s = self.limits.backoff_s * 2 ** (failures - 1)
                pause_s = min(max(pause_s, fault.pause_s), self.limits.longest_pause_s)
                _LOGGER.warning("%s; trying again in %.0f s", fault, pause_s)
                time.sleep(pause_s)
            except RangeRefusedError as fault:
                if fault.size is not None and fault.size == self._have():
                    return True
                self.entry.drop_partial()
            except RefusedError as fault:
                raise refused(
                    fault.status, self.address, fault.address, self.site, self.token, fault.body
                ) from None

    def _attempt(self) -> bool:
        """Ask for what is missing and write what comes; True where it continued a part."""
        begun, start = self.entry.begun(), self._have()
        if begun is not None and start and start == begun.size:
            return True
        request = Request(self.address, self.token)
        if begun is not None and start and begun.validator:
            request = Request(self.address, self.token, start, begun.validator)
        with open_reply(request, self.limits) as reply:
            if reply.start:
                if begun is None or not _continues(reply, begun):
                    raise RangeRefusedError(None)
                self._write(reply, b"", begun.file)
            else:
                self._write_anew(reply)
            return reply.start > 0

    def _write_anew(self, reply: Reply) -> None:
        head = b""
        while len(head) < HEAD and (content := reply.read()):
            head += content
        kind = kind_of(head[:HEAD])
        if kind not in WEIGHTS:
            raise not_a_file(kind, self.address, self.site, self.token, head)
        file = choose_name(self.name, reply.disposition, self.address.path, kind)
        self.entry.begin(PartialRecord(file, reply.size, reply.validator))
        self._write(reply, head, file)

    def _write(self, reply: Reply, content: bytes, file: str) -> None:
        """Append `content` and the rest of the reply to the part."""
        position, size = reply.start, reply.size
        self.entry.check_space(0 if size is None else size - position)
        with (
            self.entry.partial.open("ab") as part,
            _bar(file, size, position, progress=self.progress) as bar,
        ):
            while content or (content := reply.read()):
                position += len(content)
                if size is None:
                    self.entry.check_space(len(content))
                elif position > size:
                    self.entry.drop_partial()
                    raise InputError(
                        f"{self.address.shown} sends more than the {size} bytes that it announced; "
                        "nothing of it was kept. Try again later."
                    )
                part.write(content)
                part.flush()
                bar.update(len(content))
                content = b""
        if size is not None and position < size:
            raise InterruptedTransferError(f"it ended after {position} of {size} bytes")

    def _keep(self) -> Path:
        """Check the part and make it the finished file; a part that fails is dropped."""
        begun = self.entry.begun()
        if begun is None:
            raise InputError(f"The download of {self.address.shown} was removed meanwhile.")
        part, size = self.entry.partial, self._have()
        try:
            check_whole(part)
        except IncompleteFileError as fault:
            self.entry.drop_partial()
            raise InputError(
                f"{self.address.shown} delivered a damaged or incomplete file of {size} bytes: "
                f"{fault}. Nothing of it was kept; check the URL, or try again later."
            ) from None
        found = _hash(part, progress=self.progress)
        if self.sha256 and found != self.sha256:
            self.entry.drop_partial()
            raise InputError(
                f"{self.address.shown} delivered a file with the sha256 {found}, but "
                f"{self.sha256} is expected: it is another file, or damaged. Nothing of it was "
                "kept; check the URL and the expected hash."
            )
        return self.entry.finish(
            Record(self.address.shown, begun.file, size, found, begun.validator)
        )

    def _have(self) -> int:
        """How many bytes have come so far."""
        part = self.entry.partial
        return part.stat().st_size if part.is_file() else 0

    def _gave_up(self, fault: InterruptedTransferError, failures: int) -> str:
        begun, have = self.entry.begun(), self._have()
        if begun is not None and begun.validator and have:
            advice = (
                f"The {readable_size(have)} that came are kept: run the command again to go on."
            )
        else:
            advice = "Run the command again later, or give the path of a file."
        tries = f" in {failures} attempts" if failures > 1 else ""
        return f"{self.address.shown} could not be fetched{tries}: {fault}. {advice}"


def _continues(reply: Reply, begun: PartialRecord) -> bool:
    """Whether a remainder is of the file that was begun, by what the server says of both."""
    same_size = reply.size is not None and begun.size in (None, reply.size)
    return same_size and reply.validator in ("", begun.validator)


def _hash(path: Path, *, progress: bool) -> str:
    """The sha256 of a file; over a second's work shows a bar."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    with (
        path.open("rb") as file,
        _bar("checking", size, 0, progress=progress and size >= _BAR_FROM) as bar,
    ):
        while content := file.read(_HASHED):
            digest.update(content)
            bar.update(len(content))
    return digest.hexdigest()


def _bar(text: str, size: int | None, start: int, *, progress: bool) -> tqdm:
    return tqdm(
        desc=text,
        total=size,
        initial=start,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        disable=not progress,
    )
