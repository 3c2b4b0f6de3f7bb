"""What both command-line programs share: exit statuses, `--json`, and where messages go.

Results go to stdout, everything else to stderr. Exit statuses: 0 done, 1 the user's error or a
failed check, 2 bad usage (argparse's own), 130 interrupted, 143 terminated.
"""

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
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
        with _termination_raises():
            command: Command = options.command
            result = command(options)
        _print(json.dumps(result.value) if options.json else result.text)
    except UserError as error:
        if options.json:
            _print(json.dumps({"error": str(error), "kind": type(error).__name__}))
        sys.stderr.write(f"{parser.prog}: error: {_in_one_line(str(error))}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"{parser.prog}: interrupted\n")
        return 128 + signal.SIGINT
    except _Terminated:
        sys.stderr.write(f"{parser.prog}: terminated\n")
        return 128 + signal.SIGTERM
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0 if result.passed else 1


class _Terminated(BaseException):
    """SIGTERM came: unwind, so that half-written outputs are removed."""


@contextlib.contextmanager
def _termination_raises() -> Iterator[None]:
    """Turn SIGTERM into an exception, as Python does with SIGINT, unless it is handled already."""
    in_charge = threading.current_thread() is threading.main_thread()
    if not in_charge or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def unwind(*_: object) -> None:
        raise _Terminated

    signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _in_one_line(message: str) -> str:
    """Line ends and control characters, which names of files and keys may have, as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)


def _print(text: str) -> None:
    if text:
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stdout.flush()
