"""Check the documentation against the code, or with --write regenerate what is generated.

- docs/commands.md holds the `--help` of every command, word for word.
- Every relative link in a Markdown file leads to a file that exists.
- The changelog has an entry for the version.
- Every Python file has a docstring and at most `MAX_LINES` lines.
"""

import argparse
import ast
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMMANDS = ROOT / "docs" / "commands.md"
MAX_LINES = 400
PROGRAMS = ("convert", "runtime")


def main() -> int:
    """Run every check; print the faults and return 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help="rewrite docs/commands.md")
    options = parser.parse_args()
    os.environ["COLUMNS"] = "100"
    if options.write:
        COMMANDS.write_text(render_commands())
    faults = [*stale_commands(), *dead_links(), *changelog_faults(), *file_faults()]
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"docs: {len(faults)} faults")
    return 1 if faults else 0


def render_commands() -> str:
    """docs/commands.md as the code would have it now."""
    parts = [
        "# Commands\n",
        "Generated from the programs' own `--help`; `scripts/check --fix` rewrites this page.\n",
    ]
    for program in PROGRAMS:
        for name, text in _helps(program):
            parts.append(f"## {name}\n\n```text\n{text.rstrip()}\n```\n")
    return "\n".join(parts)


def stale_commands() -> Iterator[str]:
    """A fault if docs/commands.md is not what the programs print."""
    if not COMMANDS.is_file() or COMMANDS.read_text() != render_commands():
        yield "docs/commands.md is stale: run scripts/check --fix"


def dead_links() -> Iterator[str]:
    """A fault for every relative link in a tracked Markdown file that leads nowhere."""
    for path in _tracked("*.md"):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
            if "://" not in target and not (path.parent / target).exists():
                yield f"{path.relative_to(ROOT)}: the link {target} leads nowhere"


def changelog_faults() -> Iterator[str]:
    """A fault if the changelog does not begin with the package's version."""
    version = importlib.import_module("engines").__version__
    heads = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    if not heads or heads[0] != version:
        yield f"CHANGELOG.md begins with {heads[:1]}, the package is {version}"
    if f'version = "{version}"' not in (ROOT / "pyproject.toml").read_text():
        yield f"pyproject.toml names another version than engines/__init__.py ({version})"


def file_faults() -> Iterator[str]:
    """A fault for every Python file without a docstring or longer than `MAX_LINES`."""
    for path in _tracked("*.py"):
        text = path.read_text()
        lines = text.count("\n")
        if lines > MAX_LINES:
            yield f"{path.relative_to(ROOT)} has {lines} lines; split it"
        if text.strip() and ast.get_docstring(ast.parse(text)) is None:
            yield f"{path.relative_to(ROOT)} has no docstring"


def _helps(program: str) -> Iterator[tuple[str, str]]:
    """The program's own help and each of its commands', with their names."""
    parser: argparse.ArgumentParser = importlib.import_module(f"{program}.__main__").build_parser()
    yield program, parser.format_help()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield f"{program} {name}", command.format_help()


def _tracked(pattern: str) -> list[Path]:
    """The files of the project that match `pattern`, ignored ones left out."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", pattern],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]


if __name__ == "__main__":
    sys.exit(main())
