"""Strict reading of JSON and TOML into dataclasses: every disagreement is named by its field."""

import dataclasses
import types
import typing
from typing import Any, TypeVar

Record = TypeVar("Record")


class FieldError(Exception):
    """A field is missing, unknown or of the wrong type; the message names it by its path."""


def parse_fields(kind: type[Record], value: object, *, defaults: bool = False) -> Record:
    """Turn parsed JSON or TOML into the dataclass `kind`, recursively by its annotations.

    Args:
        kind: a dataclass whose fields are scalars, unions of them, `Any`, dataclasses, and
            `dict[str, ...]` or `tuple[..., ...]` of these.
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
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    allowed = arguments if origin is types.UnionType else (kind,)
    if type(value) not in allowed:
        raise FieldError(f"{where} has the unexpected value {value!r}")
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
