"""What a downloaded file is, by its first bytes, and whether all of it is there."""

import enum
import zipfile
from pathlib import Path
from typing import Final

HEAD: Final = 512
"""How many first bytes `kind_of` wants to see, if the file has as many."""

_MAX_SAFETENSORS_HEADER: Final = 100_000_000
_PICKLES: Final = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))


class Kind(enum.Enum):
    """The forms in which weights are distributed, and two in which servers refuse."""

    SAFETENSORS = "safetensors"
    ZIP = "a zip archive"
    PICKLE = "a pickle"
    PAGE = "a web page"
    JSON = "a JSON message"
    UNKNOWN = "data of an unknown kind"


WEIGHTS: Final = frozenset({Kind.SAFETENSORS, Kind.ZIP, Kind.PICKLE})


class IncompleteFileError(Exception):
    """A file is not whole; the message says what is wrong with it."""


def kind_of(head: bytes) -> Kind:
    """The kind of a file by its first `HEAD` bytes.

    The safetensors format begins with the length of its JSON header, an unsigned 64-bit integer,
    little-endian, of at most 100 MB, and the header's brace.
    """
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= _MAX_SAFETENSORS_HEADER:
        return Kind.SAFETENSORS
    if head.startswith(b"PK\x03\x04"):
        return Kind.ZIP
    if head.startswith(_PICKLES):
        return Kind.PICKLE
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<"):
        return Kind.PAGE
    if text.startswith((b"{", b"[")):
        return Kind.JSON
    return Kind.UNKNOWN


def check_whole(path: Path) -> None:
    """Check that a file begins as weights do and ends where its own structure says.

    A bare pickle does not say where it ends.

    Raises:
        IncompleteFileError: something is missing, or there is more than there should be.
    """
    with path.open("rb") as file:
        kind = kind_of(file.read(HEAD))
    if kind is Kind.SAFETENSORS:
        _check_safetensors(path)
    elif kind is Kind.ZIP and not zipfile.is_zipfile(path):
        raise IncompleteFileError("the archive has no directory at its end")
    elif kind not in WEIGHTS:
        raise IncompleteFileError(f"it is {kind.value}")


def _check_safetensors(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError:
        raise IncompleteFileError("its header cannot be read or does not fit its size") from None
