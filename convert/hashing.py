"""Hashing files, with a progress bar where it takes a while."""

from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from threading import Thread

from tqdm import tqdm

from engines.errors import InputError
from engines.identity import sha256_file
from engines.manifest import FileEntry


def hash_files(files: Mapping[str, Path], *, progress: bool, position: int = 0) -> dict[str, str]:
    """The sha256 of each file, by the same names.

    Args:
        files: what to hash.
        progress: whether to show a progress bar on stderr, from the second second on.
        position: how many other bars are above it; one below others goes when it is full.

    Raises:
        InputError: a file cannot be read.
    """
    try:
        return _hash_files(files, progress=progress, position=position)
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}.") from error


def _hash_files(files: Mapping[str, Path], *, progress: bool, position: int) -> dict[str, str]:
    total = sum(path.stat().st_size for path in files.values())
    with tqdm(
        total=total,
        desc="hash",
        unit="B",
        unit_scale=True,
        delay=1,
        position=position,
        leave=not position,
        disable=not progress,
    ) as bar:
        return {name: sha256_file(path, bar.update) for name, path in files.items()}


def start_hashing(files: Mapping[str, Path], *, progress: bool) -> "Future[dict[str, str]]":
    """Hash files in a thread, which ends with the process where nobody waits for it.

    Args:
        files: what to hash.
        progress: as `hash_files` has it; the bar is the second one, and goes when it is full.
    """
    hashes: Future[dict[str, str]] = Future()

    def hash_all() -> None:
        try:
            hashes.set_result(hash_files(files, progress=progress, position=1))
        except BaseException as error:  # whoever waits for the result has to hear of it
            hashes.set_exception(error)

    Thread(target=hash_all, daemon=True).start()
    return hashes


def find_changed(
    directory: Path, entries: Mapping[str, FileEntry], *, progress: bool
) -> dict[str, str]:
    """What is wrong with the files of an output of ours, by their names.

    Args:
        directory: the output.
        entries: its files, as it was written.
        progress: as `hash_files` has it.
    """
    there = {name: directory / name for name in entries if (directory / name).is_file()}
    hashes = hash_files(there, progress=progress)
    faults = {name: "is missing" for name in entries if name not in there}
    faults |= {
        name: "has another content than was written"
        for name, digest in hashes.items()
        if digest != entries[name].sha256
    }
    return dict(sorted(faults.items()))
