"""Run a module as `python -m tests.wall MODULE ARGUMENT...` where the converter's packages are not.

Whoever imports one of them here gets the ModuleNotFoundError that a lean installation gives.
"""

import importlib.abc
import importlib.machinery
import runpy
import sys
from collections.abc import Sequence
from types import ModuleType

WALLED_OFF = frozenset(
    {
        "accelerate",
        "convert",
        "diffusers",
        "onnx",
        "onnxscript",
        "peft",
        "polygraphy",
        "safetensors",
        "scipy",
        "torch",
        "transformers",
    }
)


class Wall(importlib.abc.MetaPathFinder):
    """Refuses the packages that the lean runtime does not have."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """Refuse walled packages, leave all others to the next finder."""
        if fullname.partition(".")[0] in WALLED_OFF:
            raise ModuleNotFoundError(f"{fullname} is behind the wall", name=fullname)
        return None


def main() -> None:
    """Put up the wall, then run the module that the command line names."""
    sys.meta_path.insert(0, Wall())
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
