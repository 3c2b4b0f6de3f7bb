"""Importing torch without the garbage collector."""

import subprocess
import sys

PROGRAM = """
import gc
from convert.imports import importing_torch
with importing_torch():
    assert not gc.isenabled()
    import torch
assert gc.isenabled()
frozen = gc.get_freeze_count()
assert frozen > 100_000
with importing_torch():
    assert gc.isenabled()
assert gc.get_freeze_count() == frozen
"""


def test_what_torch_is_made_of_is_left_alone_from_then_on() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
