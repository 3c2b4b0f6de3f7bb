"""Names from servers: their meaning where they have one, nothing that could do harm."""

import pytest

from convert.downloads.content import Kind, kind_of
from convert.downloads.names import choose_name, clean_name, disposition_name


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('attachment; filename="a b.safetensors"', "a b.safetensors"),
        ("attachment; filename=ab.ckpt", "ab.ckpt"),
        ("attachment;filename=ab.ckpt;size=3", "ab.ckpt"),
        ('inline; FileName="x.ckpt"', "x.ckpt"),
        ('attachment; filename="say \\"hi\\".pt"', 'say "hi".pt'),
        ("attachment; filename*=UTF-8''na%C3%AFve.pt", "naïve.pt"),
        ("attachment; filename*=utf-8'en'x%20y.pt; filename=z.pt", "x y.pt"),
        ("attachment; filename=\"z.pt\"; filename*=UTF-8''x.pt", "x.pt"),
        ("attachment; filename*=nonsense''x.pt; filename=z.pt", "z.pt"),
        ("attachment; filename*=UTF-8''%FF.pt; filename=z.pt", "z.pt"),
        ('attachment; filename="na\xc3\xafve.pt"', "naïve.pt"),
        ('attachment; filename="na\xefve.pt"', "naïve.pt"),
        ("attachment", ""),
        ("", ""),
        ('attachment; notfilename="x.pt"', ""),
    ],
)
def test_content_disposition(header: str, name: str) -> None:
    assert disposition_name(header) == name


@pytest.mark.parametrize(
    ("given", "clean"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\x.ckpt", "x.ckpt"),
        ("/", ""),
        ("..", ""),
        (". . x", "x"),
        (".hidden", "hidden"),
        ("a\0b\nc\x1b[31m\u202ed\udc80.pt", "abc[31md.pt"),
        ("cafe\u0301.pt", "café.pt"),
    ],
)
def test_harmless(given: str, clean: str) -> None:
    assert clean_name(given) == clean


@pytest.mark.parametrize(
    ("wanted", "header", "path", "kind", "name"),
    [
        ("", "", "/a/My%20Model.safetensors", Kind.SAFETENSORS, "My Model.safetensors"),
        ("", "", "/a/..%2f..%2fx.SafeTensors", Kind.SAFETENSORS, "x.SafeTensors"),
        ("", "", "/api/download/models/43695", Kind.SAFETENSORS, "43695.safetensors"),
        ("", "", "/", Kind.ZIP, "download.ckpt"),
        ("", "", "/x.safetensors", Kind.PICKLE, "x.safetensors.ckpt"),
        ("", "", "/x.pt", Kind.ZIP, "x.pt"),
        ("", "", "/x.pt", Kind.SAFETENSORS, "x.pt.safetensors"),
        ("", "filename=y.ckpt", "/x", Kind.ZIP, "y.ckpt"),
        ("..", "filename=y.ckpt", "/x", Kind.ZIP, "y.ckpt"),
        ("../w", "filename=y.ckpt", "/x", Kind.ZIP, "w.ckpt"),
    ],
)
def test_the_suffix_fits_the_content(
    wanted: str, header: str, path: str, kind: Kind, name: str
) -> None:
    assert choose_name(wanted, header, path, kind) == name


def test_length_is_counted_in_bytes() -> None:
    name = choose_name("\u00e9" * 500 + ".safetensors", "", "/", Kind.SAFETENSORS)
    assert name.endswith("\u00e9.safetensors")
    assert 148 <= len(name.encode()) <= 150


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        ((2).to_bytes(8, "little") + b"{}", Kind.SAFETENSORS),
        ((200_000_000).to_bytes(8, "little") + b"{}", Kind.UNKNOWN),
        (b"PK\x03\x04....", Kind.ZIP),
        (b"\x80\x02}q", Kind.PICKLE),
        (b"\x80\x04\x95", Kind.PICKLE),
        (b"<html>", Kind.PAGE),
        (b"\r\n\t <!doctype html>", Kind.PAGE),
        (b'{"error": 1}', Kind.JSON),
        (b'{"__metad', Kind.JSON),
        (b"version https://git-lfs", Kind.UNKNOWN),
        (b"", Kind.UNKNOWN),
    ],
)
def test_kinds(head: bytes, kind: Kind) -> None:
    assert kind_of(head) is kind
