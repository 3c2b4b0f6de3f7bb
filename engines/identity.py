"""Identity is content: what makes two builds the same is a hash, never a path or a date."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

_CHUNK = 1 << 20

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def sha256_file(path: Path, on_bytes: Callable[[int], None] = lambda _: None) -> str:
    """The sha256 of a file's bytes, as 64 hexadecimal digits.

    Args:
        path: the file.
        on_bytes: called with the number of bytes after each piece that was read.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
            on_bytes(count)
    return digest.hexdigest()


def identity_of(parts: Mapping[str, Json]) -> str:
    """The sha256 of `parts` as canonical JSON (sorted keys, no spaces, UTF-8)."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def tool_versions(distributions: Iterable[str]) -> dict[str, str]:
    """The installed version of each distribution; those not installed are left out."""
    import importlib.metadata  # brings all of email along; the runtime does without

    versions = {}
    for name in sorted(distributions):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
