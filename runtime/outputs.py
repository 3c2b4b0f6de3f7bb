"""Where pictures go: one named file, or a directory that gets new files."""

import os
import re
from pathlib import Path

from engines.errors import OutputError, SettingError
from engines.publish import publish_file

SUFFIX = ".png"
_OTHER_PICTURES = frozenset({".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".tif", ".tiff", ".webp"})
_NUMBER = re.compile(r"(\d+)-\d+\.png")


class PictureOutput:
    """Writes PNG files to a file or directory that was checked before any work was done.

    In a directory, files are named `NUMBER-SEED.png`, numbered on from the highest there is.
    """

    def __init__(self, path: Path, *, count: int, force: bool) -> None:
        """Prepare to write `count` pictures to `path`: a file if it ends in .png.

        Raises:
            SettingError: `path` names a file of another kind, or one file for several pictures.
            OutputError: the file exists and may not be replaced, or the place cannot be written.
        """
        self._path = path
        self._to_directory = path.is_dir() or path.suffix.lower() != SUFFIX
        if self._to_directory:
            if path.suffix.lower() in _OTHER_PICTURES:
                raise SettingError(f"--out {path}: pictures are PNG; give a name ending in .png.")
            if path.exists() and not path.is_dir():
                raise OutputError(f"{path} is a file; give a directory or a name ending in .png.")
        else:
            if count > 1:
                raise SettingError(
                    f"--out {path} is one file, but there are {count} pictures; give a directory."
                )
            if path.exists() and not force:
                raise OutputError(f"{path} exists already. Add --force to replace it.")
        _check_writable(path if self._to_directory else path.parent)

    def write(self, png: bytes, seed: int) -> Path:
        """Write one picture whole or not at all, and return where it is.

        Raises:
            OutputError: the place cannot be written.
        """
        target = self._path / self._new_name(seed) if self._to_directory else self._path
        with publish_file(target) as partial:
            partial.write_bytes(png)
        return target

    def _new_name(self, seed: int) -> str:
        names = [file.name for file in self._path.iterdir()] if self._path.is_dir() else []
        taken = [int(match[1]) for name in names if (match := _NUMBER.fullmatch(name))]
        return f"{max(taken, default=0) + 1:05}-{seed}{SUFFIX}"


def _check_writable(directory: Path) -> None:
    place = directory
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise OutputError(f"Cannot write to {directory}: {place} is a file. Choose another place.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise OutputError(
            f"Cannot write to {directory}: {place} may not be written. "
            "Choose another place or change its permissions."
        )
