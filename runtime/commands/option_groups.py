"""Options that mean something only beside another one."""

import argparse
from collections.abc import Mapping
from typing import Any

from engines.errors import SettingError


def read_group(
    options: argparse.Namespace,
    master: str,
    names: Mapping[str, str],
    instead: str = "",
    *,
    settled: bool = False,
) -> dict[str, Any]:
    """The options of a group that were given, by the names of the settings' fields.

    Args:
        options: what argparse made; None where an option was left out.
        master: the option that the others need.
        names: the options, and for each the name of its field.
        instead: another option that will do.
        settled: whether the picture of `--from` has what the others belong to.

    Raises:
        SettingError: one was given without the option that it needs.
    """
    values = {name: getattr(options, name) for name in names}
    values = {name: value for name, value in values.items() if value is not None}
    masters = [name for name in (master, instead) if name]
    if values and not settled and all(getattr(options, name) is None for name in masters):
        needed = " or ".join(map(_option, masters))
        raise SettingError(f"{_option(next(iter(values)))} needs {needed}.")
    return {names[name]: value for name, value in values.items()}


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
