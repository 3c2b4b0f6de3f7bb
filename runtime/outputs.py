"""Where pictures go: one named file, or a directory that gets new files."""

import contextlib
import os
import re
from pathlib import Path

from engines.errors import OutputError, SettingError
from engines.publish import TakenError, irregular, publish_file, resolve_target

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}
_OTHER_PICTURES = frozenset({".avif", ".bmp", ".gif", ".tif", ".tiff"})
_NUMBER = re.compile(r"(\d+)-(?:\d+|sheet)\.(?:png|jpg|webp)")


class PictureOutput:
    """Writes picture files to a file or directory that was checked before any work was done.

    In a directory, files are named `NUMBER-SEED.SUFFIX`, numbered on from the highest there is,
    and sheets of them `NUMBER-sheet.SUFFIX`. A file is one picture, or only the sheet.

    Attributes:
        kind: Pillow's name of the format.
        to_directory: whether there is a file for every picture.
    """

    def __init__(
        self,
        path: Path,
        *,
        count: int,
        force: bool,
        kind: str | None = None,
        sheet: bool = False,
    ) -> None:
        """Prepare to write to `path`: a file if it ends in .png, .jpg, .jpeg or .webp.

        Args:
            path: where to.
            count: of pictures.
            force: replace a file.
            kind: Pillow's name of the format of files in a directory; by default PNG.
            sheet: whether there will be one.

        Raises:
            SettingError: `path` names a file of another kind, or one file for several pictures.
            OutputError: the file exists and may not be replaced, what is there is no regular file,
                or the place cannot be written.
        """
        resolve_target(path)
        suffix = path.suffix.lower()
        self._path = path
        self._force = force
        try:
            is_directory, exists = path.is_dir(), path.exists()
        except PermissionError as error:
            raise _refusal(path, path.parent) from error
        self.to_directory = is_directory or suffix not in _FORMATS
        if self.to_directory:
            self.kind = kind or "PNG"
            if suffix in _OTHER_PICTURES:
                raise SettingError(
                    f"--out {path}: pictures are PNG, JPEG or WebP; give a name ending in .png, "
                    ".jpg or .webp."
                )
            if exists and not is_directory:
                raise OutputError(f"{path} is a file; give a directory or a name ending in .png.")
        else:
            self.kind = _FORMATS[suffix]
            if kind not in (None, self.kind):
                raise SettingError(f"--out {path} is no {kind} file; leave --format out.")
            if count > 1 and not sheet:
                raise SettingError(
                    f"--out {path} is one file, but there are {count} pictures; give a directory."
                )
            if exists and not path.is_file():
                raise irregular(path)
            if exists and not force:
                raise OutputError(f"{path} exists already. Add --force to replace it.")
        _check_writable(path if self.to_directory else path.parent)
        if self.to_directory:
            self._highest()

    def write(self, file: bytes, seed: int) -> Path:
        """Write one picture whole or not at all, and return where it is.

        Raises:
            OutputError: the place cannot be written, or a file is there by now that may not be
                replaced.
        """
        return self._publish(file, str(seed))

    def write_sheet(self, file: bytes) -> Path:
        """Likewise for a sheet of several.

        Raises:
            OutputError: as `write`.
        """
        return self._publish(file, "sheet")

    def _publish(self, file: bytes, name: str) -> Path:
        if not self.to_directory:
            _write(file, self._path, replace=self._force)
            return self._path
        while True:
            target = self._path / f"{self._highest() + 1:05}-{name}{_SUFFIXES[self.kind]}"
            with contextlib.suppress(TakenError):  # by another process: the next number is free
                _write(file, target, replace=False)
                return target

    def _highest(self) -> int:
        """The highest number of a file in the directory; 0 where there is none."""
        try:
            names = [file.name for file in self._path.iterdir()] if self._path.is_dir() else []
        except PermissionError:
            raise OutputError(
                f"Cannot number pictures in {self._path}: the directory may not be listed. "
                "Name a file in it, choose another place or change its permissions."
            ) from None
        taken = [int(match[1]) for each in names if (match := _NUMBER.fullmatch(each))]
        return max(taken, default=0)


def _write(file: bytes, target: Path, *, replace: bool) -> None:
    with publish_file(target, replace=replace) as partial:
        partial.write_bytes(file)


def _check_writable(directory: Path) -> None:
    place = directory
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise OutputError(f"Cannot write to {directory}: {place} is a file. Choose another place.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise _refusal(directory, place)


def _refusal(target: Path, place: Path) -> OutputError:
    return OutputError(
        f"Cannot write to {target}: {place} may not be written. "
        "Choose another place or change its permissions."
    )
