"""`convert` and `python -m convert`: the offline commands."""

import argparse
import sys
from collections.abc import Sequence

from convert.commands import build, chain, export, fuse, inspect, verify
from engines import __version__
from engines.console import run_program

DESCRIPTION = (
    "Fuse LoRAs into Stable Diffusion 1.5, export it to ONNX, verify it, and build a bundle that "
    "the runtime serves without torch."
)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line, as `--help` shows it."""
    parser = argparse.ArgumentParser(prog="convert", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in (fuse, export, verify, build, chain, inspect):
        module.add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(build_parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
