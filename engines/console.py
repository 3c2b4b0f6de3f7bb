"""What both command-line programs share: exit statuses, `--json`, and where messages go.

Results go to stdout, everything else to stderr. Exit statuses: 0 done, 1 the user's error or a
failed check, 2 bad usage (argparse's own), 130 interrupted.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engines.errors import UserError
from engines.identity import Json


@dataclass(frozen=True)
class Result:
    """What a command has to say: a text for people, a value for machines, and whether it passed."""

    text: str
    value: dict[str, Json]
    passed: bool = True


Command = Callable[[argparse.Namespace], Result]


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a command the options that every command has."""
    parser.add_argument(
        "--json", action="store_true", help="print one machine-readable result on stdout"
    )
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="no progress bars, warnings and errors only"
    )


def run_program(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    """Parse `arguments`, run the command that they name, and return the exit status.

    Every subparser sets `command` (a `Command`) with `set_defaults`.
    """
    options = parser.parse_args(arguments)
    level = logging.WARNING if options.quiet else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr, force=True)
    try:
        result = options.command(options)
        _print(json.dumps(result.value, ensure_ascii=False) if options.json else result.text)
    except UserError as error:
        if options.json:
            _print(json.dumps({"error": str(error), "kind": type(error).__name__}))
        sys.stderr.write(f"{parser.prog}: error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"{parser.prog}: interrupted\n")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0 if result.passed else 1


def _print(text: str) -> None:
    if text:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
