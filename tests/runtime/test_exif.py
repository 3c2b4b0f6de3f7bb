"""Texts in EXIF, as piexif, which the webui uses, writes and reads them."""

import io

import pytest
from PIL import Image

from engines.errors import SettingError
from runtime.exif import pack_exif, read_exif

COMMENT, DESCRIPTION = "a café 中🙂", "fracture-sd: {}"
SPACED = "a" + 300 * "\u3000" + "b\nSteps: 20, Sampler: Euler"
BY_PIEXIF = bytes.fromhex(
    "4578696600004d4d002a000000080002010e000200000010000000268769000400000001000000360000000066726163"
    "747572652d73643a207b7d000001928600070000001c00000044554e49434f4445000061002000630061006600e90020"
    "4e2dd83dde42"
)
"""pip install piexif==1.1.3

piexif.dump({
    "0th": {piexif.ImageIFD.ImageDescription: DESCRIPTION.encode()},
    "Exif": {piexif.ExifIFD.UserComment: piexif.helper.UserComment.dump(COMMENT, "unicode")},
}).hex()
"""


def read(exif: bytes, kind: str) -> tuple[str | None, str | None]:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, kind, exif=exif)
    with Image.open(file) as image:
        return read_exif(image)


def test_it_is_piexifs_but_for_the_end_of_a_directory_that_piexif_leaves_out() -> None:
    entry = BY_PIEXIF.index(b"\x92\x86\0\7")
    theirs = bytearray(BY_PIEXIF)
    theirs[entry + 11] += 4
    theirs[entry + 12 : entry + 12] = bytes(4)
    assert pack_exif(COMMENT, DESCRIPTION) == bytes(theirs)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_piexifs_is_read(kind: str) -> None:
    assert read(BY_PIEXIF, kind) == (COMMENT, DESCRIPTION)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize("comment", ["", "a", "line\nline", COMMENT, "中文" * 300, SPACED])
def test_texts_come_back(comment: str, kind: str) -> None:
    for description in ("a", "odd", "even", "more than four", None):
        assert read(pack_exif(comment, description), kind) == (comment, description)


@pytest.mark.parametrize(
    ("code", "encoding", "comment"),
    [
        (b"UNICODE\0", "utf-16-le", "a cat"),
        (b"UNICODE\0", "utf-16-le", SPACED),
        (b"ASCII\0\0\0", "ascii", "a cat"),
    ],
)
def test_comments_of_other_programs_are_read(code: bytes, encoding: str, comment: str) -> None:
    ours = b"UNICODE\0" + comment.encode("utf-16-be")
    theirs = code + comment.encode(encoding)
    exif = pack_exif(comment).replace(ours, theirs.ljust(len(ours), b"\0"))
    assert read(exif, "JPEG")[0] == comment


def test_texts_that_no_jpeg_file_holds_are_refused() -> None:
    pack_exif("x" * 30_000)
    with pytest.raises(SettingError, match=r"too long for a JPEG or WebP.*Write PNG"):
        pack_exif("x" * 33_000)
