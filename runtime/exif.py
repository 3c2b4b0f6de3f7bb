"""Texts in EXIF, for JPEG and WebP: where AUTOMATIC1111's webui puts its own, and one more.

The webui's text is the UserComment, in UTF-16 behind the code that EXIF 2.32 (4.6.5) has for
Unicode; the other one is the ImageDescription, in ASCII. Pillow writes a UserComment with a type
that other readers do not take, so the few bytes are put together here.
"""

import struct

from PIL import Image

from engines.errors import SettingError

_DESCRIPTION, _EXIF_IFD, _USER_COMMENT = 0x010E, 0x8769, 0x9286
_ASCII, _LONG, _UNDEFINED = 2, 4, 7
_UNICODE, _PLAIN = b"UNICODE\0", b"ASCII\0\0\0"
_PREFIX = b"Exif\0\0"
_HEADER = b"MM\0*" + struct.pack(">L", 8)
_MOST_BYTES = 65533
"""What a JPEG file's segment holds."""


def pack_exif(comment: str, description: str | None = None) -> bytes:
    """A picture's EXIF with one or two texts; `description` is ASCII.

    Raises:
        SettingError: they are too long for a JPEG file.
    """
    user_comment = _UNICODE + comment.encode("utf-16-be")
    texts = [] if description is None else [_ascii_entry(_DESCRIPTION, description)]
    nested_at = 8 + len(_directory(8, [*texts, _pointer(_EXIF_IFD, 0)]))
    main = _directory(8, [*texts, _pointer(_EXIF_IFD, nested_at)])
    nested = _directory(nested_at, [(_USER_COMMENT, _UNDEFINED, len(user_comment), user_comment)])
    exif = _PREFIX + _HEADER + main + nested
    if len(exif) > _MOST_BYTES:
        raise SettingError(
            f"The prompts are too long for a JPEG or WebP file's metadata ({len(exif)} bytes; "
            f"{_MOST_BYTES} is the most). Write PNG."
        )
    return exif


def read_exif(image: Image.Image) -> tuple[str | None, str | None]:
    """The comment and the description in a picture's EXIF, each None where there is none."""
    exif = image.getexif()
    comment = exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT)
    description = exif.get(_DESCRIPTION)
    return _decode(comment), description if isinstance(description, str) else None


_Entry = tuple[int, int, int, bytes]
"""A tag, its type, how many values it has, and they."""


def _ascii_entry(tag: int, text: str) -> _Entry:
    content = text.encode("ascii") + b"\0"
    return tag, _ASCII, len(content), content


def _pointer(tag: int, offset: int) -> _Entry:
    return tag, _LONG, 1, struct.pack(">L", offset)


def _directory(at: int, entries: list[_Entry]) -> bytes:
    """A directory that stands at `at`, and behind it the values of more than four bytes."""
    size = 2 + 12 * len(entries) + 4
    packed, values = struct.pack(">H", len(entries)), b""
    for tag, kind, count, value in entries:
        packed += struct.pack(">HHL", tag, kind, count)
        if len(value) <= 4:
            packed += value.ljust(4, b"\0")
        else:
            packed += struct.pack(">L", at + size + len(values))
            values += value + b"\0" * (len(value) % 2)
    return packed + b"\0\0\0\0" + values


def _decode(comment: object) -> str | None:
    """A UserComment's text; programs differ in the byte order of the Unicode ones."""
    if not isinstance(comment, bytes):
        return None
    code, content = comment[:8], comment[8:]
    if code == _UNICODE:
        texts = [content.decode(order, "replace") for order in ("utf-16-be", "utf-16-le")]
        return max(texts, key=_likeness).rstrip("\0")
    if code == _PLAIN:
        return content.decode("ascii", "replace").rstrip("\0 ")
    return None


def _likeness(text: str) -> tuple[bool, int]:
    """How much it looks like the webui's; ASCII alone says little, for U+3000 swapped is a 0."""
    return "Steps: " in text, sum(map(str.isascii, text))
