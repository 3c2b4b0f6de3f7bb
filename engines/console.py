"""What both command-line programs share: exit statuses, `--json`, and where messages go.

Results go to stdout, everything else to stderr. Exit statuses: 0 done, 1 the user's error or a
failed check, 2 bad usage (argparse's own), 130 interrupted, 143 terminated. A stream that is closed
leads nowhere. A result that cannot be written is an error, unless its reader has gone; a message or
progress bar that cannot be is dropped.
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
from pathlib import Path
from typing import Any, TextIO, cast

from engines.errors import OutputError, UserError
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
    with _streams():
        return _run(parser, arguments)


def _run(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    options = argparse.Namespace(json=False)
    try:
        options = _parse(parser, arguments)
        level = logging.WARNING if options.quiet else logging.INFO
        logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr, force=True)
        with _termination_raises():
            command: Command = options.command
            result = command(options)
        _print(json.dumps(result.value) if options.json else result.text)
    except UserError as error:
        if options.json:
            with contextlib.suppress(OutputError):
                _print(json.dumps({"error": str(error), "kind": type(error).__name__}))
        sys.stderr.write(f"{parser.prog}: error: {_in_one_line(str(error))}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"{parser.prog}: interrupted\n")
        return 128 + signal.SIGINT
    except _Terminated:
        sys.stderr.write(f"{parser.prog}: terminated\n")
        return 128 + signal.SIGTERM
    return 0 if result.passed else 1


def _parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    try:
        return parser.parse_args(arguments)
    except SystemExit:
        _print("")  # what --help and --version left in the buffer
        raise


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
    """Write a result, all of it.

    Raises:
        OutputError: stdout does not take it. A reader that has gone is no error.
    """
    try:
        if text:
            encoding = sys.stdout.encoding or "utf-8"
            sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stdout.flush()
    except OSError as error:
        _lead_nowhere(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            raise OutputError(
                f"The work is done, but its result cannot be written to stdout: {error.strerror}. "
                "Send it to another place."
            ) from error


class _Forgiving:
    """A stream that drops what cannot be written: no run should end for want of a message."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or do not; how many characters there were."""
        with self._dropping():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Likewise."""
        with self._dropping():
            self._stream.flush()

    @contextlib.contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            _lead_nowhere(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _lead_nowhere(stream: TextIO) -> None:
    """Let a stream take everything, also what is in its buffer when the program ends."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with contextlib.suppress(OSError):
            os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def _streams() -> Iterator[None]:
    """Put something in the place of standard streams that are closed; let stderr be forgiving.

    Their descriptors are taken too, or the next file that is opened would get what a library
    prints.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    with contextlib.ExitStack() as stack:
        nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        stack.enter_context(contextlib.redirect_stdout(sys.stdout or nowhere))
        messages = cast(TextIO, _Forgiving(sys.stderr or nowhere))
        stack.enter_context(contextlib.redirect_stderr(messages))
        yield
