"""Exit statuses, --json and where messages go."""

import argparse
import json

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
