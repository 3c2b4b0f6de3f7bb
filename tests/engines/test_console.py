"""Exit statuses, --json and where messages go."""

import argparse
import io
import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from engines.console import Command, Result, add_common_arguments, run_program
from engines.errors import InputError, MissingExtraError


def _program(command: Command) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tool")
    commands = parser.add_subparsers(required=True)
    go = commands.add_parser("go")
    add_common_arguments(go)
    go.set_defaults(command=command)
    return parser


def _fail(_: argparse.Namespace) -> Result:
    raise InputError("x.safetensors is truncated. Download it again.")


def _check_failed(_: argparse.Namespace) -> Result:
    return Result("one of three failed", {"failed": 1}, passed=False)


def _succeed(_: argparse.Namespace) -> Result:
    return Result("all good", {"good": True})


def _interrupt(_: argparse.Namespace) -> Result:
    raise KeyboardInterrupt


def test_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_program(_program(_succeed), ["go"]) == 0
    assert capsys.readouterr() == ("all good\n", "")


def test_success_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_program(_program(_succeed), ["go", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"good": True}


def test_users_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_program(_program(_fail), ["go"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == "tool: error: x.safetensors is truncated. Download it again.\n"


def test_users_error_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_program(_program(_fail), ["go", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["kind"] == "InputError"


def test_failed_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_program(_program(_check_failed), ["go"]) == 1
    assert capsys.readouterr().out == "one of three failed\n"


def test_bad_usage() -> None:
    with pytest.raises(SystemExit) as stop:
        run_program(_program(_succeed), ["go", "--nonsense"])
    assert stop.value.code == 2


def test_interrupted() -> None:
    assert run_program(_program(_interrupt), ["go"]) == 130


def test_terminated(tmp_path: Path) -> None:
    """SIGTERM leaves what SIGINT leaves: nothing."""
    program = textwrap.dedent(
        f"""
        import argparse, os, signal, sys
        from pathlib import Path
        from engines.console import run_program
        from engines.publish import publish_directory

        def half(_):
            out = Path({str(tmp_path / "out")!r})
            with publish_directory(out, force=False, marker="x") as partial:
                (partial / "x").write_text("half")
                os.kill(os.getpid(), signal.SIGTERM)

        parser = argparse.ArgumentParser(prog="tool")
        parser.set_defaults(command=half, json=False, quiet=False)
        sys.exit(run_program(parser, []))
        """
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (143, b"tool: terminated\n")
    assert list(tmp_path.iterdir()) == []


def test_a_handler_of_the_commands_own_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def command(_: argparse.Namespace) -> Result:
        seen.append(signal.getsignal(signal.SIGTERM))
        return Result("", {})

    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        run_program(_program(command), ["go"])
    finally:
        signal.signal(signal.SIGTERM, before)
    run_program(_program(command), ["go"])
    assert seen[0] == signal.SIG_IGN
    assert callable(seen[1])
    assert signal.getsignal(signal.SIGTERM) == before


def test_names_cannot_break_the_line_or_paint_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: argparse.Namespace) -> Result:
        raise InputError("the key 'a\nb\x1b[31m\ud800 ünïcode' matches nothing")

    assert run_program(_program(fail), ["go"]) == 1
    assert capsys.readouterr().err == (
        "tool: error: the key 'a\\nb\\x1b[31m\\ud800 ünïcode' matches nothing\n"
    )


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_what_the_terminal_cannot_show_is_escaped(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    text = "ж \ud800"
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    assert run_program(_program(lambda _: Result(text, {"text": text})), ["go"]) == 0
    assert run_program(_program(lambda _: Result(text, {"text": text})), ["go", "--json"]) == 0
    line, value = raw.getvalue().decode(encoding).splitlines()
    assert line == (r"ж \ud800" if encoding == "utf-8" else r"\u0436 \ud800")
    assert json.loads(value) == {"text": text}


def test_a_bug_keeps_its_traceback() -> None:
    def crash(_: argparse.Namespace) -> Result:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_program(_program(crash), ["go"])


def test_missing_extra_says_how_to_install() -> None:
    error = MissingExtraError("torch", "convert", "convert export")
    assert str(error) == (
        "convert export needs the package torch, which is not installed. "
        "Run: pip install 'fracture-sd[convert]'"
    )
