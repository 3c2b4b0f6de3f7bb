"""Opening a bundle: the directory that the converter publishes and the runtime serves."""

import errno
import itertools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from engines import layout
from engines.errors import BundleError
from engines.identity import sha256_file
from engines.manifest import ComponentSpec, Manifest, read_manifest


@dataclass(frozen=True)
class Bundle:
    """A bundle whose manifest has been read and whose files are all there."""

    path: Path
    manifest: Manifest

    def component(self, name: str) -> ComponentSpec:
        """The exported graph `name`.

        Raises:
            BundleError: the bundle has no such component.
        """
        try:
            return self.manifest.components[name]
        except KeyError:
            raise BundleError(f"{self.path} has no component {name}.") from None

    def graph(self, name: str) -> Path:
        """The path of a component's ONNX graph."""
        return self.path / self.component(name).graph

    def openvino_graph(self, name: str) -> Path:
        """The path of the graph that OpenVINO runs fastest for a component on AMX."""
        spec = self.component(name)
        return self.path / (spec.openvino_graph or spec.graph)

    def weights_size(self, name: str) -> int:
        """Bytes of a component's graph and its external data."""
        return sum(
            entry.size
            for file, entry in self.manifest.files.items()
            if file.startswith(f"{name}/{layout.GRAPH_FILE}")
        )


def open_bundle(path: Path) -> Bundle:
    """Open the bundle at `path`, checking its revision, its file list and every file's size.

    Raises:
        BundleError: it is no bundle, it is of another revision, or a file is missing, truncated or
            may not be read.
    """
    try:
        return _open(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _open(path: Path) -> Bundle:
    if not path.exists():
        raise BundleError(
            f"There is no bundle at {path}. Make one with `convert all --out {path}`."
        )
    if path.is_file():
        raise BundleError(f"{path} is a file. A bundle is a directory: give that.")
    _raise_closed(path, [layout.BUNDLE_FILE])
    manifest = read_manifest(path / layout.BUNDLE_FILE)
    graphs = [(part.graph, part.openvino_graph) for part in manifest.components.values()]
    names = [*manifest.files, *itertools.chain.from_iterable(graphs)]
    _raise_faults(path, [f"{name} is not inside" for name in names if _leaves(name)])
    _raise_closed(path, [*manifest.files, layout.ENGINES_DIRECTORY])
    faults = []
    for name, entry in manifest.files.items():
        file = path / name
        if not file.is_file():
            faults.append(f"{name} is missing")
        elif file.stat().st_size != entry.size:
            faults.append(f"{name} has {file.stat().st_size} bytes instead of {entry.size}")
    _raise_faults(path, faults)
    return Bundle(path, manifest)


def verify_hashes(bundle: Bundle, on_file: Callable[[str], None] = lambda _: None) -> None:
    """Hash every file of the bundle and compare with the manifest.

    Args:
        bundle: the bundle to read.
        on_file: called with each file's name before it is read.

    Raises:
        BundleError: the content of a file is not what was exported, or cannot be read.
    """
    faults = []
    for name, entry in bundle.manifest.files.items():
        on_file(name)
        try:
            found = sha256_file(bundle.path / name)
        except OSError as error:
            raise _unreadable(bundle.path, error) from error
        if found != entry.sha256:
            faults.append(f"{name} has another content than was exported")
    _raise_faults(bundle.path, faults)


def _leaves(name: str) -> bool:
    """Whether a file's name leads out of the directory that it should be in."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


def _raise_closed(path: Path, names: Iterable[str]) -> None:
    """Refuse what is there and may not be read, before a library meets it."""
    closed = [name for name in names if _is_closed(path / name)]
    if closed:
        raise BundleError(
            f"Files of the bundle {path} may not be read: {', '.join(closed)}. Change their "
            "permissions and those of their directories."
        )


def _is_closed(file: Path) -> bool:
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:
        return True
    return not os.access(file, os.R_OK)


def _unreadable(path: Path, error: OSError) -> BundleError:
    """What to tell the user where the system does not let a bundle be read."""
    place = error.filename or path
    if error.errno in (errno.EACCES, errno.EPERM):
        return BundleError(f"{place} may not be read. Change its permissions.")
    if error.errno == errno.ENAMETOOLONG:
        return BundleError(f"{place} is no bundle: the name is longer than the system allows.")
    return BundleError(
        f"{place} cannot be read: {error.strerror}. Check the disk, or give another bundle."
    )


def _raise_faults(path: Path, faults: list[str]) -> None:
    if faults:
        raise BundleError(
            f"The bundle {path} is damaged: {'; '.join(faults)}. Copy or export it again."
        )
