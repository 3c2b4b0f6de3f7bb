"""Contact sheets: which settings change along a sheet's columns and rows."""

import csv
import dataclasses
import itertools
import math
import re
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engines.errors import SettingError
from runtime.request import MAX_COUNT, Request

_RANGE = re.compile(r"\s*(-?\d{1,20})\s*\.\.\s*(-?\d{1,20})\s*")

_Change = Callable[[Request, Any], Request]


def _field(name: str) -> _Change:
    return lambda request, value: dataclasses.replace(request, **{name: value})


def _nested(group: str, name: str) -> _Change:
    def change(request: Request, value: Any) -> Request:
        inner = dataclasses.replace(getattr(request, group), **{name: value})
        return dataclasses.replace(request, **{group: inner})

    return change


def _size(request: Request, value: tuple[int, int]) -> Request:
    return dataclasses.replace(request, width=value[0], height=value[1])


def _read_size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    return int(width), int(height)


_AXES: dict[str, tuple[Callable[[str], Any], _Change]] = {
    "seed": (int, _field("seed")),
    "steps": (int, _field("steps")),
    "cfg": (float, _field("cfg")),
    "sampler": (str, _field("sampler")),
    "schedule": (str, _field("schedule")),
    "prompt": (str, _field("prompt")),
    "negative": (str, _field("negative")),
    "preset": (str, _field("preset")),
    "clip-skip": (int, _field("clip_skip")),
    "size": (_read_size, _size),
    "subseed": (int, _nested("noise", "subseed")),
    "subseed-strength": (float, _nested("noise", "subseed_strength")),
    "noise": (str, _nested("noise", "source")),
    "cfg-rescale": (float, _nested("guidance", "rescale")),
    "cfg-start": (float, _nested("guidance", "start")),
    "cfg-end": (float, _nested("guidance", "end")),
    "eta": (float, _nested("stochasticity", "eta")),
    "s-churn": (float, _nested("stochasticity", "s_churn")),
    "s-noise": (float, _nested("stochasticity", "s_noise")),
}
_TEXT_AXES = ("weight", "replace")
"""In the order in which they change a prompt, after what sets all of it."""
_SELF_EXPLANATORY = ("sampler", "schedule", "prompt", "size", "replace")


@dataclass(frozen=True)
class Axis:
    """One axis of a sheet.

    Attributes:
        name: what it changes, as in `cfg` or `weight:blue hair`.
        labels: of each place.
        changes: what each place makes of a request.
    """

    name: str
    labels: tuple[str, ...]
    changes: tuple[Callable[[Request], Request], ...]

    @property
    def turn(self) -> tuple[int, int, str]:
        """Sorts axes as they are applied: a prompt, weights, replacements; longer words first."""
        kind, _, words = self.name.partition(":")
        return 1 + _TEXT_AXES.index(kind) if words else 0, -len(words), words


@dataclass(frozen=True)
class Sheet:
    """The axes of a contact sheet; `rows` is None where there is only one row."""

    text: str
    columns: Axis
    rows: Axis | None

    def varies(self, name: str) -> bool:
        """Whether an axis is of this name."""
        return name in (self.columns.name, self.rows and self.rows.name)

    def requests(self, request: Request, *, keep_schedule: bool = False) -> list[Request]:
        """A request for each place, row by row, whichever axis comes first.

        Args:
            request: what the places have in common.
            keep_schedule: give its schedule to every sampler of an axis; else each takes its own.

        Raises:
            SettingError: words that are to be changed are not in the prompt.
        """
        if self.varies("sampler") and not keep_schedule:
            request = dataclasses.replace(request, schedule=None)
        if self.rows is None:
            return [column(request) for column in self.columns.changes]
        places = itertools.product(self.rows.changes, self.columns.changes)
        if self.rows.turn <= self.columns.turn:
            return [column(row(request)) for row, column in places]
        return [row(column(request)) for row, column in places]


def parse_sheet(text: str) -> Sheet:
    """Read the axes of a sheet, as in `cfg=1,4,7;steps=10,20`.

    The first axis goes along the columns, the second one along the rows. Values that hold commas
    stand in double quotes; 1..5 are the whole numbers from 1 to 5. `weight:WORDS=0.5,1,1.5`
    weighs words of the prompt, `replace:WORDS=a,b` puts others in their place.

    Raises:
        SettingError: the text is not like that, or a value is not one of the axis' kind.
    """
    text = " ".join(text.splitlines())
    axes = [_parse_axis(part) for part in _split(text)]
    if not 1 <= len(axes) <= 2:
        raise SettingError(f"{text!r} has {len(axes)} axes; a sheet has one or two.")
    rows = axes[1] if len(axes) == 2 else None
    if rows and rows.name == axes[0].name:
        raise SettingError(f"The axis {rows.name} is there twice; write all its values into one.")
    places = len(axes[0].labels) * (len(rows.labels) if rows else 1)
    if places > MAX_COUNT:
        raise SettingError(f"A sheet of {places} pictures is not possible: {MAX_COUNT} at most.")
    return Sheet(text, axes[0], rows)


def _split(text: str) -> list[str]:
    """At semicolons outside double quotes."""
    return [part for part in re.findall(r'(?:"[^"]*"|[^;"])+', text) if part.strip()]


def _parse_axis(text: str) -> Axis:
    name, equals, listed = text.partition("=")
    kind, colon, words = name.strip().partition(":")
    kind = kind.strip().casefold().replace("_", "-")
    if not equals or not listed.strip():
        raise SettingError(f"{text.strip()!r} is no axis: write NAME=VALUE,VALUE.")
    known = kind in _TEXT_AXES if colon else kind in _AXES
    if not known:
        names = ", ".join([*_AXES, *(f"{each}:WORDS" for each in _TEXT_AXES)])
        raise SettingError(f"No axis {name.strip()!r}; choose one of {names}.")
    words = words.strip()
    read, change = _text_axis(kind, words) if colon else _AXES[kind]
    values = _values(listed, number=read is int)
    shown = words if colon else kind
    prefix = "" if kind in _SELF_EXPLANATORY else f"{shown} "
    return Axis(
        f"{kind}:{words}" if colon else kind,
        tuple(prefix + value for value in values),
        tuple(_bind(change, _read(read, value, name.strip())) for value in values),
    )


def _values(listed: str, *, number: bool) -> Sequence[str]:
    try:
        (values,) = csv.reader([listed], skipinitialspace=True)
    except csv.Error as error:
        shown = reprlib.repr(listed.strip())
        raise SettingError(f"{shown} cannot be read as values with commas: {error}.") from error
    spread: list[str] = []
    for value in values:
        match = _RANGE.fullmatch(value) if number else None
        if match is None:
            spread.append(value.strip())
            continue
        first, last = int(match[1]), int(match[2])
        if not 0 <= last - first < MAX_COUNT:
            raise SettingError(f"{value.strip()!r} is no range of 1 to {MAX_COUNT} numbers.")
        spread += map(str, range(first, last + 1))
    return spread


def _read(read: Callable[[str], Any], value: str, name: str) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise SettingError(f"{value!r} is no value for the axis {name}.") from error


def _bind(change: _Change, value: Any) -> Callable[[Request], Request]:
    return lambda request: change(request, value)


def _text_axis(kind: str, words: str) -> tuple[Callable[[str], Any], _Change]:
    whole = re.compile(rf"(?:(?<!\w)|(?!\w)){re.escape(words)}(?:(?!\w)|(?<!\w))")

    def change(request: Request, value: Any) -> Request:
        if not words or not whole.search(request.prompt):
            raise SettingError(f"The prompt has no {words!r} that the sheet could change.")
        new = value if kind == "replace" else f"({words}:{_plain_decimal(value)})"
        return dataclasses.replace(request, prompt=whole.sub(lambda _: new, request.prompt))

    return (_finite if kind == "weight" else str), change


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _plain_decimal(value: float) -> str:
    """A number as prompts write it, which know no exponents; it is read back as the very same."""
    return np.format_float_positional(value, trim="-")
