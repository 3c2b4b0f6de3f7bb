"""Standard streams that are closed, full or read by nobody: no traceback, and no run ends early."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

_PROGRAM = textwrap.dedent(
    """
    import argparse, logging, sys
    from engines.console import Result, add_common_arguments, run_program
    from engines.errors import InputError

    def work(options):
        from pathlib import Path
        from tqdm import tqdm
        logging.getLogger("x").info("a message")
        with tqdm(total=2, mininterval=0, disable=options.quiet) as bar:
            bar.update()
            with Path("made").open("w") as made:
                made.write("whole")
                bar.update()
        if options.fail:
            raise InputError("the input is damaged. Download it again.")
        return Result("all good " * 999, {"good": True})

    parser = argparse.ArgumentParser(prog="tool", description="A tool.")
    add_common_arguments(parser)
    parser.add_argument("--fail", action="store_true")
    parser.set_defaults(command=work)
    sys.exit(run_program(parser, sys.argv[1:]))
    """
)
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")


def _run(place: Path, redirection: str, *arguments: str, unbuffered: bool) -> tuple[int, str, str]:
    """Run the program in a shell, in `place`: the exit status, stdout and stderr."""
    program = place / "tool.py"
    program.write_text(_PROGRAM)
    done = subprocess.run(
        [
            "bash",
            "-c",
            f'"$@" {redirection}; exit ${{PIPESTATUS[0]}}',
            "bash",
            sys.executable,
            program,
            *arguments,
        ],
        cwd=place,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUNBUFFERED": "1" * unbuffered},
        check=False,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(params=[True, False], ids=["unbuffered", "buffered"])
def unbuffered(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@needs_full
def test_a_full_stdout_is_one_line(tmp_path: Path, *, unbuffered: bool) -> None:
    for arguments in (["-q"], ["-q", "--json"]):
        status, _, messages = _run(tmp_path, ">/dev/full", *arguments, unbuffered=unbuffered)
        assert status == 1
        assert messages == (
            "tool: error: The work is done, but its result cannot be written to stdout: "
            "No space left on device. Send it to another place.\n"
        )


@pytest.mark.parametrize("redirection", [">&-", "| true", "<&- >&-"])
def test_a_result_that_nobody_wants(tmp_path: Path, redirection: str, *, unbuffered: bool) -> None:
    assert _run(tmp_path, redirection, "-q", unbuffered=unbuffered) == (0, "", "")
    assert (tmp_path / "made").read_text() == "whole"
    assert _run(tmp_path, redirection, "--help", unbuffered=unbuffered) == (0, "", "")


@pytest.mark.parametrize(
    "redirection", [">&-", "| true", pytest.param(">/dev/full", marks=needs_full)]
)
def test_an_error_is_still_said(tmp_path: Path, redirection: str, *, unbuffered: bool) -> None:
    arguments = ["-q", "--json", "--fail"]
    status, _, messages = _run(tmp_path, redirection, *arguments, unbuffered=unbuffered)
    assert status == 1
    assert messages == "tool: error: the input is damaged. Download it again.\n"


@pytest.mark.parametrize(
    "redirection",
    ["2>&-", "2>&1 | true", pytest.param("2>/dev/full", marks=needs_full)],
    ids=["closed", "unread", "full"],
)
def test_messages_that_cannot_be_written(
    tmp_path: Path, redirection: str, *, unbuffered: bool
) -> None:
    """Neither they nor the progress bar end the run, nor do they get into what it writes."""
    result = "" if "|" in redirection else '{"good": true}\n'
    assert _run(tmp_path, redirection, "--json", unbuffered=unbuffered) == (0, result, "")
    assert (tmp_path / "made").read_text() == "whole"
    assert _run(tmp_path, redirection, "--fail", unbuffered=unbuffered) == (1, "", "")
    assert _run(tmp_path, redirection, "--nonsense", unbuffered=unbuffered) == (2, "", "")


@needs_full
def test_help_that_cannot_be_written(tmp_path: Path) -> None:
    status, _, messages = _run(tmp_path, ">/dev/full", "--help", unbuffered=False)
    assert status == 1
    assert len(messages.splitlines()) == 1
