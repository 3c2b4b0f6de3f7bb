"""Whether an output is still what would be made today, as far as can be seen without its inputs."""

from collections.abc import Mapping
from pathlib import Path

from convert.fuse_record import FuseRecord, fused_sibling, read_record
from convert.hashing import find_changed
from engines import __version__, layout
from engines.bundle import Bundle
from engines.errors import InputError
from engines.identity import tool_versions


def stale_fused(directory: Path, record: FuseRecord, *, progress: bool) -> list[str]:
    """Why a fused model would come out otherwise today; empty where nothing speaks for it.

    Args:
        directory: the fused model.
        record: its fuse.json.
        progress: whether hashing its files shows its progress.
    """
    changed = find_changed(directory, record.files, progress=progress)
    return [*_changed(changed), *_other_tools(record.tools)]


def stale_bundle(bundle: Bundle, *, progress: bool) -> list[str]:
    """Why a bundle would come out otherwise today; empty where nothing speaks for it.

    The fused model that `convert all` keeps beside the bundle is looked at where it is there.

    Args:
        bundle: what to look at.
        progress: whether hashing its files shows its progress.
    """
    manifest = bundle.manifest
    return [
        *_changed(find_changed(bundle.path, manifest.files, progress=progress)),
        *_other_tools(manifest.tools),
        *_other_model(bundle),
    ]


def _changed(faults: Mapping[str, str]) -> list[str]:
    return [f"{name} {fault}" for name, fault in faults.items()]


def _other_tools(recorded: Mapping[str, str]) -> list[str]:
    here = {**tool_versions(recorded), "fracture-sd": __version__}
    return [
        f"it was made with {name} {version}, here is {here.get(name, 'none')}"
        for name, version in recorded.items()
        if here.get(name) != version
    ]


def _other_model(bundle: Bundle) -> list[str]:
    file = fused_sibling(bundle.path) / layout.FUSE_FILE
    if not file.is_file():
        return []
    try:
        record = read_record(file)
    except InputError as error:
        return [str(error)]
    if record.identity == bundle.manifest.provenance.get("identity"):
        return []
    return [f"{file.parent} has been fused anew since: run convert all, or convert export"]
