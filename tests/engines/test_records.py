"""Our JSON files: what is written is read again, and what cannot be read is one error."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from engines.errors import InputError
from engines.records import RecordFile


@dataclass(frozen=True)
class Note:
    text: str
    revision: int = 3


FILE = RecordFile(Note, 3, InputError, "a pad", "Buy one.", "Write it again")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    FILE.write(Note("ßkin"), path)
    assert path.read_text(encoding="utf-8") == '{\n  "text": "ßkin",\n  "revision": 3\n}\n'
    assert FILE.read(path) == Note("ßkin")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "{parent} is not a pad: it holds no note.json. Buy one."),
        ("{{", "{path} cannot be read: .*line 1.* Write it again."),
        ("[1]", "{path} names no revision. Write it again."),
        ('{{"text": "a"}}', "{path} names no revision. Write it again."),
        (
            '{{"revision": "3", "words": "a"}}',
            "{path} is of revision '3'; this version reads revision 3 only. "
            "Write it again with this version.",
        ),
        ('{{"revision": 3}}', "{path}: text is missing. Write it again."),
        (
            '{{"revision": 3, "text": 1}}',
            "{path}: text has the unexpected value 1. Write it again.",
        ),
    ],
)
def test_what_cannot_be_read_is_one_error(
    content: str | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "note.json"
    if content is not None:
        path.write_text(content.format())
    with pytest.raises(InputError, match=f"^{message.format(path=path, parent=tmp_path)}$"):
        FILE.read(path)
