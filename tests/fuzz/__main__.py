"""Look for input that a parser cannot take, for as long as you like.

With `pip install '.[fuzz]'`, atheris drives the inputs by the code that they reach; without it,
hypothesis draws them at random. What fails is printed, and ends the run with status 1. Atheris
keeps what it learnt, and the inputs that failed, in work/fuzz.
"""

import argparse
import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.properties import PROPERTIES

_KEPT: Final = Path("work") / "fuzz"
_MEMORY_MB: Final = 2048
_LONGEST: Final = 8192
"""How many bytes an input of atheris has at most; hypothesis makes files and texts of them."""


def main() -> int:
    """Run every property in turn, each for its share of the time."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="default: %(default)s")
    parser.add_argument("properties", nargs="*", metavar="PROPERTY", help=", ".join(PROPERTIES))
    options = parser.parse_args()
    names = options.properties or list(PROPERTIES)
    unknown = set(names) - PROPERTIES.keys()
    if unknown:
        parser.error(f"there is no property {', '.join(sorted(unknown))}")
    guided = importlib.util.find_spec("atheris") is not None
    seconds = options.minutes * 60 / len(names)
    failed = [name for name in names if not (_guide if guided else _draw)(name, seconds)]
    sys.stderr.write(f"failed: {', '.join(failed)}\n" if failed else "nothing found\n")
    return bool(failed)


def _guide(name: str, seconds: float) -> bool:
    corpus = _KEPT / name
    corpus.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "tests.fuzz.guided", name),
        *(f"-max_total_time={seconds:.0f}", "-timeout=20"),
        *(f"-rss_limit_mb={_MEMORY_MB}", f"-max_len={_LONGEST}"),
        *(f"-artifact_prefix={_KEPT / name}-", str(corpus)),
    ]
    return not subprocess.run(command, check=False).returncode


def _draw(name: str, seconds: float) -> bool:
    """Draw inputs at random until the time is over or one fails, which is raised."""
    sys.stderr.write(f"{name}\n")
    choice = settings(
        max_examples=200,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        choice(given(PROPERTIES[name].inputs)(PROPERTIES[name].check))()
    return True


if __name__ == "__main__":
    sys.exit(main())
