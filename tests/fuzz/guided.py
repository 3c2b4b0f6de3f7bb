"""One property under atheris; `python -m tests.fuzz` starts it."""

import sys
from typing import Any

import atheris
from hypothesis import HealthCheck, given, settings

with atheris.instrument_imports(include=["convert", "engines", "runtime"]):
    from tests.fuzz.properties import PROPERTIES


def main() -> None:
    """Run the property that the first argument names; the others are libFuzzer's."""
    name = sys.argv.pop(1)
    choice = settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
    test: Any = choice(given(PROPERTIES[name].inputs)(PROPERTIES[name].check))
    atheris.Setup(sys.argv, test.hypothesis.fuzz_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
