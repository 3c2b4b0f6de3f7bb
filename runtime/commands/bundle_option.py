"""`--bundle`: which bundle a command opens."""

import argparse
from pathlib import Path

from engines import layout
from engines.errors import BundleError

BUNDLES = Path("bundles")


def add_bundle_argument(parser: argparse.ArgumentParser) -> None:
    """Give a command the option `--bundle`; read it with `find_bundle`."""
    parser.add_argument(
        "--bundle",
        type=Path,
        metavar="DIR",
        help=f"the bundle (default: the only one in ./{BUNDLES})",
    )


def find_bundle(given: Path | None) -> Path:
    """The bundle that was given, or the only one in ./bundles.

    Raises:
        BundleError: none was given, and there is none or more than one.
    """
    if given is not None:
        return given
    found = sorted(path.parent for path in BUNDLES.glob(f"*/{layout.BUNDLE_FILE}"))
    if not found:
        raise BundleError(
            f"There is no bundle in ./{BUNDLES}. Name one with --bundle, or make one: "
            f"convert all --recipe demo --out {BUNDLES}/demo"
        )
    if len(found) > 1:
        names = ", ".join(map(str, found))
        raise BundleError(f"There are several bundles; name one with --bundle: {names}.")
    return found[0]
