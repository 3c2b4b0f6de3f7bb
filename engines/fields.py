"""Strict reading of JSON and TOML into dataclasses: every disagreement is named by its field."""

import dataclasses
import json
import re
import reprlib
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

Record = TypeVar("Record")

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class FieldError(Exception):
    """A field is missing, unknown or of the wrong type; the message names it by its path."""


def parse_json(
    content: bytes | str, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None
) -> Any:
    """Parse JSON that can be written again: no file of ours or of others is trusted to be sane.

    Args:
        content: UTF-8.
        pairs: makes an object of its names and values; by default a dict.

    Raises:
        ValueError: it is no JSON, nested too deeply, or has half of a surrogate pair.
    """
    text = content if isinstance(content, str) else content.decode("utf-8-sig")
    try:
        value = json.loads(text, object_pairs_hook=pairs)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("it has half of a surrogate pair, which is no character") from None
    return value


def parse_fields(kind: type[Record], value: object, *, defaults: bool = False) -> Record:
    """Turn parsed JSON or TOML into the dataclass `kind`, recursively by its annotations.

    Args:
        kind: a dataclass whose fields are scalars, unions of them with at most one dataclass,
            `Any`, dataclasses, and `dict[str, ...]` or `tuple[..., ...]` of these.
        value: what the JSON or TOML parser returned.
        defaults: whether a field that has a default may be left out.

    Raises:
        FieldError: the value does not have the annotated form.
    """
    return typing.cast(Record, _parse(kind, value, "", defaults))


def _parse(kind: Any, value: Any, where: str, defaults: bool) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _parse_dataclass(kind, value, where, defaults)
    if kind is Any:
        return value
    if origin is dict:
        if not isinstance(value, dict):
            raise FieldError(f"{where} is not an object")
        return {
            key: _parse(arguments[1], item, f"{where}.{key}", defaults)
            for key, item in value.items()
        }
    if origin is tuple:
        if not isinstance(value, list):
            raise FieldError(f"{where} is not a list")
        return tuple(
            _parse(arguments[0], item, f"{where}[{i}]", defaults) for i, item in enumerate(value)
        )
    if origin is types.UnionType and isinstance(value, dict):
        for kind_of_object in filter(dataclasses.is_dataclass, arguments):
            return _parse_dataclass(kind_of_object, value, where, defaults)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise FieldError(f"{where} is too large a number") from None
    allowed = arguments if origin is types.UnionType else (kind,)
    if type(value) not in allowed:
        raise FieldError(f"{where} has the unexpected value {reprlib.repr(value)}")
    return value


def _parse_dataclass(kind: Any, value: Any, where: str, defaults: bool) -> Any:
    if not isinstance(value, dict):
        raise FieldError(f"{where or 'the content'} is not an object")
    hints = typing.get_type_hints(kind)
    optional = {
        field.name for field in dataclasses.fields(kind) if defaults and _has_default(field)
    }
    wrong = [f"{name} is missing" for name in sorted(hints.keys() - value.keys() - optional)]
    wrong += [f"{name} is unknown" for name in sorted(value.keys() - hints.keys())]
    if wrong:
        raise FieldError(f"{where}: {', '.join(wrong)}" if where else ", ".join(wrong))
    prefix = f"{where}." if where else ""
    return kind(
        **{name: _parse(hints[name], item, prefix + name, defaults) for name, item in value.items()}
    )


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return (
        field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    )
