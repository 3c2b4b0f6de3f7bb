"""Hashing files, with a progress bar where it takes a while."""

from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from engines.identity import sha256_file
from engines.manifest import FileEntry


def hash_files(files: Mapping[str, Path], *, progress: bool) -> dict[str, str]:
    """The sha256 of each file, by the same names.

    Args:
        files: what to hash.
        progress: whether to show a progress bar on stderr, from the second second on.
    """
    total = sum(path.stat().st_size for path in files.values())
    with tqdm(
        total=total, desc="hash", unit="B", unit_scale=True, delay=1, disable=not progress
    ) as bar:
        return {name: sha256_file(path, bar.update) for name, path in files.items()}


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
