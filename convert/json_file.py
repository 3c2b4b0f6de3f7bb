"""Reading and writing the small JSON files of a model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.errors import InputError
from engines.fields import parse_json


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        InputError: the file is missing, cannot be read, or holds something else.
    """
    try:
        content = parse_json(read_bytes(path))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged: it is not a JSON object. Get the file again.")
    return content


def dump_json(content: Mapping[str, Any]) -> bytes:
    """Indented JSON in UTF-8, as it is written beside a model's weights."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
