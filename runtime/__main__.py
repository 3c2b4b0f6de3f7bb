"""`runtime` and `python -m runtime`: pictures from a bundle."""

import argparse
import sys
from collections.abc import Sequence

from engines import __version__
from engines.console import run_program
from runtime.commands import bench, generate, info, serve, tokens

DESCRIPTION = "Make pictures from a bundle that `convert` built, without torch."


def build_parser() -> argparse.ArgumentParser:
    """The whole command line, as `--help` shows it."""
    parser = argparse.ArgumentParser(prog="runtime", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in (generate, tokens, serve, bench, info):
        module.add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(build_parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
