"""Importing torch without what the garbage collector adds to it."""

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def importing_torch() -> Iterator[None]:
    """Keep the garbage collector away from what the block imports, where torch is not there yet.

    torch is made of some two hundred thousand objects. They are no garbage, but the collector goes
    through them again and again while they come, and once more when the process ends: a third of
    what importing it costs.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
