"""Picture files that are damaged, or large: the user's error, whatever Pillow's readers say."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from engines.errors import InputError, SettingError
from runtime.picture_file import Texts, read_texts
from runtime.reading_pictures import opened, reading
from runtime.source_picture import SourcePicture


def file_of(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, kind)
    return file.getvalue()


@pytest.fixture
def cut_gif(tmp_path: Path) -> Path:
    """A GIF file that ends behind the head of a second picture, where Pillow has an IndexError."""
    path = tmp_path / "cut.gif"
    path.write_bytes(file_of("GIF")[:-1] + b"," + bytes(9))
    return path


@pytest.fixture
def odd_dds(tmp_path: Path) -> Path:
    """A DDS file whose pixels have no known form, where Pillow has a NotImplementedError."""
    content = bytearray(file_of("DDS"))
    content[80:84] = bytes(4)
    path = tmp_path / "odd.dds"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("read", [SourcePicture.open, SourcePicture.open_mask])
def test_damaged_pictures(read: Callable[[Path], object], cut_gif: Path, odd_dds: Path) -> None:
    with pytest.raises(InputError, match=r"cut\.gif cannot be read as a picture: index out of"):
        read(cut_gif)
    with pytest.raises(InputError, match=r"odd\.dds cannot be read as a picture: Unknown pixel"):
        read(odd_dds)


def test_damaged_pictures_that_are_asked_how_they_were_made(odd_dds: Path) -> None:
    with pytest.raises(InputError, match=r"odd\.dds cannot be read as a picture: Unknown pixel"):
        read_texts(odd_dds)


def test_large_pictures_are_not_warned_of(tmp_path: Path) -> None:
    """Our own limit answers where there is one; Pillow's warning would be an error in tests."""
    path = tmp_path / "large.png"
    Image.new("1", (12_000, 8_000)).save(path)
    with pytest.raises(InputError, match=r"large\.png has 12000x8000 pixels\. Make it smaller"):
        SourcePicture.open(path)
    assert read_texts(path) == Texts(None, None)


def test_errors_of_ours_pass(cut_gif: Path) -> None:
    with pytest.raises(SettingError, match="ours"), opened(cut_gif):
        raise SettingError("ours")


def test_errors_without_a_word_are_named() -> None:
    with (
        pytest.raises(InputError, match=r"a\.png cannot be read as a picture: MemoryError\."),
        reading("a.png", "a picture"),
    ):
        raise MemoryError
