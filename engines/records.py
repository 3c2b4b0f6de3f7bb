"""The JSON files that this package writes for itself: each carries a revision and is read strictly.

Reading refuses a revision that this version does not know, and a missing, extra or wrongly typed
field by its name.
"""

import dataclasses
import json
import reprlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from engines.errors import UserError
from engines.fields import FieldError, parse_fields, parse_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Content = TypeVar("Content", bound="DataclassInstance")


@dataclass(frozen=True)
class RecordFile(Generic[Content]):
    """One kind of file: what it holds, and what is said where it cannot be read.

    Attributes:
        kind: the dataclass of its content, which has a field `revision`.
        revision: the one that this version knows.
        error: what reading raises.
        marks: what the directory is that holds such a file: "a bundle".
        make: how to get one where there is none: a sentence.
        remake: how to get a readable one: "Export the bundle again".
        faults: what is wrong with content whose fields are all of their types.
    """

    kind: type[Content]
    revision: int
    error: type[UserError]
    marks: str
    make: str
    remake: str
    faults: Callable[[Content], Iterable[str]] = lambda _: ()

    def write(self, content: Content, path: Path) -> None:
        """Write `content` as indented JSON; the caller publishes the file or its directory."""
        text = json.dumps(dataclasses.asdict(content), indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")

    def read(self, path: Path) -> Content:
        """Read a file.

        Raises:
            UserError: as `error`: it is not there, is not JSON, is of another revision, a field is
                missing, unknown or of the wrong type, or the content has faults.
        """
        try:
            content = parse_json(path.read_bytes())
        except FileNotFoundError:
            raise self.error(
                f"{path.parent} is not {self.marks}: it holds no {path.name}. {self.make}"
            ) from None
        except (OSError, ValueError) as error:
            raise self.error(f"{path} cannot be read: {error}. {self.remake}.") from error
        if not isinstance(content, dict) or "revision" not in content:
            raise self.error(f"{path} names no revision. {self.remake}.")
        if content["revision"] != self.revision:
            raise self.error(
                f"{path} is of revision {reprlib.repr(content['revision'])}; this version reads "
                f"revision {self.revision} only. {self.remake} with this version."
            )
        try:
            parsed = parse_fields(self.kind, content)
        except FieldError as error:
            raise self.error(f"{path}: {error}. {self.remake}.") from None
        if faults := "; ".join(self.faults(parsed)):
            raise self.error(f"{path}: {faults}. {self.remake}.")
        return parsed
