"""Values of Python's own types: numpy's numbers are taken, and other types are named as faults."""

import dataclasses
import operator
import reprlib
import types
import typing
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from engines.errors import SettingError

Record = TypeVar("Record")

_WORDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}


def plain(record: Record) -> Record:
    """A dataclass of settings whose numbers, and those inside, are Python's.

    Args:
        record: the settings; numbers may be of any type that says that it is a number.

    Returns:
        The very `record` where nothing had to be converted.

    Raises:
        SettingError: values are of another type than their fields; the message names all of them.
    """
    faults: list[str] = []
    settled: Record = _plain(record, "", faults)
    if faults:
        raise SettingError("; ".join(faults) + ".")
    return settled


def _plain(record: Any, where: str, faults: list[str]) -> Any:
    converted = {}
    kind_of_record: Any = type(record)
    for name, kinds in _kinds(kind_of_record).items():
        value = getattr(record, name)
        if value is None and types.NoneType in kinds:
            continue
        kind: Any = next(kind for kind in kinds if kind is not types.NoneType)
        path = where + name
        nested: bool = dataclasses.is_dataclass(kind)
        if nested and isinstance(value, kind):
            settled = _plain(value, f"{path}.", faults)
        else:
            try:
                settled = _converted(value, kind)
            except (TypeError, ValueError, OverflowError):
                shown = " ".join(reprlib.repr(value).split())
                words = _WORDS.get(kind) or kind.__name__
                faults.append(f"{path} takes {words}, not {shown}")
                continue
        if settled is not value:
            converted[name] = settled
    return dataclasses.replace(record, **converted) if converted else record


def _converted(value: Any, kind: Any) -> Any:
    """A value as its field's type has it; other types than those of `_WORDS` stay as they are.

    Raises:
        TypeError: it is of another type.
        ValueError: likewise.
        OverflowError: it is too large for a float.
    """
    if kind is bool:
        if not isinstance(value, bool | np.bool_):
            raise TypeError
        return bool(value)
    if kind is int or kind is float:
        if isinstance(value, bool | np.bool_ | str | bytes):
            raise TypeError
        return int(operator.index(value)) if kind is int else float(value)
    checked = kind is str or dataclasses.is_dataclass(kind)
    if checked and not isinstance(value, kind):
        raise TypeError
    return value


@lru_cache
def _kinds(record: type) -> Mapping[str, tuple[Any, ...]]:
    """The types of each field, one apart from None."""
    return {
        name: typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        for name, hint in typing.get_type_hints(record).items()
    }
