"""The directory for what can be had again but at a cost: downloads, compiled kernels."""

import os
from pathlib import Path
from typing import Final

from engines.errors import OutputError

VARIABLE: Final = "FRACTURE_SD_CACHE"


def cache_directory() -> Path:
    """$FRACTURE_SD_CACHE, else a directory of this project in the user's cache directory (XDG).

    Raises:
        OutputError: the user has no home directory.
    """
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser().absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():
        return base / "fracture-sd"
    try:
        return Path.home() / ".cache" / "fracture-sd"
    except RuntimeError:
        raise OutputError(
            f"There is no home directory for a cache. Set {VARIABLE} to a directory."
        ) from None
