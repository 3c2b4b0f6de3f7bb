"""The name of a downloaded file: the server's, made harmless, or the address's last part."""

import re
import unicodedata
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

from convert.downloads.content import Kind

_EXTENDED: Final = re.compile(
    r"(?:^|;)\s*filename\*\s*=\s*([\w-]+)'[^';]*'([^;\s]+)", re.ASCII | re.I
)
_QUOTED: Final = re.compile(r'(?:^|;)\s*filename\s*=\s*"((?:[^"\\]|\\.)*)"', re.I)
_BARE: Final = re.compile(r'(?:^|;)\s*filename\s*=\s*([^";\s]+)', re.I)
_PICKLE_SUFFIXES: Final = (".ckpt", ".pt", ".pth", ".bin")
_MAX_BYTES: Final = 150
_UNNAMED: Final = "download"


def choose_name(wanted: str, disposition: str, path: str, kind: Kind) -> str:
    """A file name without a directory, of sane length, with a suffix that fits the content.

    Args:
        wanted: the caller's name, or empty.
        disposition: the Content-Disposition header as latin-1 text (RFC 6266), or empty.
        path: the path of the address, percent-encoded; its last part is the last resort.
        kind: what the content is; a suffix that says otherwise gets the right one appended.
    """
    last = unquote(path.rpartition("/")[2])
    candidates = map(clean_name, (wanted, disposition_name(disposition), last))
    return _fit(next(filter(None, candidates), _UNNAMED), kind)


def disposition_name(header: str) -> str:
    """The file name in a Content-Disposition header; the extended form (RFC 8187) comes first."""
    if match := _EXTENDED.search(header):
        try:
            return unquote_to_bytes(match[2]).decode(match[1])
        except (LookupError, UnicodeDecodeError):
            pass
    if match := _QUOTED.search(header):
        return _utf8(re.sub(r"\\(.)", r"\1", match[1]))
    if match := _BARE.search(header):
        return _utf8(match[1])
    return ""


def clean_name(name: str) -> str:
    """The last part of `name`, without control characters, leading dots or trailing blanks."""
    text = unicodedata.normalize("NFC", name).replace("\\", "/")
    printable = "".join(c for c in text.rpartition("/")[2] if c.isprintable())
    return printable.strip().lstrip(". ")


def _fit(name: str, kind: Kind) -> str:
    """Bring a clean name to a sane length and the suffix of its content."""
    suffix = PurePosixPath(name).suffix.lower()
    if kind is Kind.SAFETENSORS:
        suffixes: tuple[str, ...] = (".safetensors",)
    else:
        suffixes = _PICKLE_SUFFIXES
    ending = name[-len(suffix) :] if suffix in suffixes else suffixes[0]
    stem = name[: -len(suffix)] if suffix in suffixes else name
    room = _MAX_BYTES - len(ending)
    return stem.encode()[:room].decode(errors="ignore").rstrip() + ending


def _utf8(text: str) -> str:
    """Header text that was UTF-8 all along; otherwise as it is."""
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text
