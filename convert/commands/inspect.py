"""`convert inspect`: what a file or directory is."""

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from convert.base import read_base
from convert.checkpoint import split_checkpoint
from convert.commands.fuse import describe, describe_rank
from convert.commands.inspect_plans import (
    PLAN_SUFFIX,
    describe_found,
    describe_staleness,
    inspect_plan,
    inspect_plan_set,
)
from convert.family import FAMILY
from convert.fuse_record import FuseRecord, read_record
from convert.kinds import CHECKPOINT, INPAINTING, LORA, recognise
from convert.lora import count_ranks, lora_family, read_lora
from convert.lora_keys import namings_of
from convert.model import LDM, WEIGHT_FILES
from convert.staleness import stale_bundle, stale_fused
from convert.tensors import StoredTensor, TensorFile
from convert.weight_file import open_weight_file
from engines import layout
from engines.bundle import open_bundle
from engines.console import Result, add_common_arguments
from engines.errors import InputError
from engines.fields import FieldError, parse_fields
from engines.identity import Json, sha256_file
from engines.manifest import Manifest
from engines.plan_sets import find_plans


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = commands.add_parser(
        "inspect",
        help="say what a file or directory is",
        description="Say what a LoRA, base model, fused model, bundle or TensorRT plan is and "
        "holds.",
    )
    parser.add_argument("path", type=Path, metavar="FILE|DIR")
    add_common_arguments(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> Result:
    """Recognise what is at the path and describe it."""
    path: Path = options.path
    if not path.exists():
        raise InputError(f"There is nothing at {path}.")
    if path.is_file():
        if path.suffix == PLAN_SUFFIX:
            return inspect_plan(path, progress=not options.quiet)
        return _inspect_file(path)
    if (path / layout.PLANS_FILE).is_file():
        return inspect_plan_set(path, progress=not options.quiet)
    if (path / layout.BUNDLE_FILE).is_file():
        return _inspect_bundle(path, progress=not options.quiet)
    if (path / layout.FUSE_FILE).is_file():
        return _inspect_fused(path, progress=not options.quiet)
    return _inspect_base(path)


def _inspect_file(path: Path) -> Result:
    file = open_weight_file(path)
    kind = recognise(file)
    digest = sha256_file(path)
    hashes = f"sha256 {digest}, AutoV2 {digest[:10].upper()}"
    value: dict[str, Json] = {"sha256": digest, "autov2": digest[:10].upper()}
    if kind == LORA:
        return _inspect_lora(file, hashes, value)
    if kind in (CHECKPOINT, INPAINTING):
        return _inspect_checkpoint(file, kind.what, hashes, value)
    dtypes = _dtypes(file.tensors.values())
    return Result(
        f"{path}: {kind.what}\n  {hashes}\n  {len(file.tensors)} tensors, {', '.join(dtypes)}",
        {
            "kind": "tensors",
            "what": kind.what,
            "tensors": len(file.tensors),
            "dtypes": [*dtypes],
            **value,
        },
    )


def _inspect_checkpoint(file: TensorFile, what: str, hashes: str, value: dict[str, Json]) -> Result:
    groups, ignored = split_checkpoint(file)
    lines = [f"{file.path}: {what}, in LDM layout", f"  {hashes}"]
    components: dict[str, Json] = {}
    for name in WEIGHT_FILES:
        group = groups.get(name, {})
        dtypes = _dtypes(group.values())
        lines.append(f"  {name}: {len(group)} tensors, {', '.join(dtypes) or 'missing'}")
        components[name] = {"tensors": len(group), "dtypes": [*dtypes]}
    if ignored:
        lines.append(f"  left out: {', '.join(f'{n} {kind}' for kind, n in ignored.items())}")
    return Result(
        "\n".join(lines),
        {
            "kind": "base",
            "what": what,
            "family": FAMILY,
            "layout": LDM,
            "components": components,
            "ignored": {**ignored},
            **value,
        },
    )


def _dtypes(tensors: Iterable[StoredTensor]) -> list[str]:
    return sorted({tensor.dtype for tensor in tensors})


def _inspect_lora(file: TensorFile, hashes: str, value: dict[str, Json]) -> Result:
    family = lora_family(file)
    dtypes = _dtypes(file.tensors.values())
    value |= {"kind": "lora", "family": family, "dtypes": [*dtypes]}
    if family != FAMILY:
        text = f"{file.path}: a LoRA for {family}, {', '.join(dtypes)}; it cannot be fused"
        return Result(f"{text}\n  {hashes}", {**value, "metadata": dict(file.metadata)})
    lora = read_lora(file.path)
    namings = namings_of(file.tensors.keys() - {*lora.strays})
    lines = [
        f"{file.path}: a LoRA for {FAMILY} with {len(lora.modules)} modules, in the names of "
        f"{' and '.join(namings)}, {', '.join(dtypes)}",
        f"  {hashes}",
    ]
    ranks = count_ranks(lora)
    lines += [f"  {row.component}: {row.modules} modules, {describe_rank(row)}" for row in ranks]
    if lora.strays:
        lines.append(f"  {len(lora.strays)} keys of no layer, as {lora.strays[0][:200]}")
    lines += [f"  trained tag: {tag} ({count})" for tag, count in lora.trained_tags.items()]
    return Result(
        "\n".join(lines),
        {
            **value,
            "layout": [*namings],
            "modules": len(lora.modules),
            "ranks": [asdict(rank) for rank in ranks],
            "strays": list(lora.strays),
            "trained_tags": dict(lora.trained_tags),
            "metadata": dict(lora.metadata),
        },
    )


def _inspect_bundle(path: Path, *, progress: bool) -> Result:
    bundle = open_bundle(path)
    manifest = bundle.manifest
    lines = [f"{path}: a bundle, {manifest.name}, identity {manifest.identity[:10]}"]
    lines += [
        f"  {name}: {component.graph}, {component.dtype}"
        for name, component in manifest.components.items()
    ]
    lines += [
        f"  embedding {name}: {spec.vectors} vectors, sha256 {spec.source_sha256}"
        for name, spec in manifest.embeddings.items()
    ]
    lines += [f"  {line}" for line in _provenance(manifest)]
    plans = find_plans(bundle)
    lines += [describe_found(found) for found in plans]
    stale = stale_bundle(bundle, progress=progress)
    value: dict[str, Json] = {
        "manifest": asdict(manifest),
        "plans": {found.path.name: found.fault for found in plans},
        "stale": [*stale],
    }
    return Result("\n".join([*lines, *describe_staleness(stale)]), {"kind": "bundle", **value})


def _inspect_fused(path: Path, *, progress: bool) -> Result:
    record = read_record(path / layout.FUSE_FILE)
    stale = stale_fused(path, record, progress=progress)
    lines = [f"{path}: a fused model, identity {record.identity[:10]}", *describe(record)]
    value: dict[str, Json] = {"record": asdict(record), "stale": [*stale]}
    return Result("\n".join([*lines, *describe_staleness(stale)]), {"kind": "fused", **value})


def _provenance(manifest: Manifest) -> list[str]:
    """What a bundle was made from, for people."""
    if not manifest.provenance:
        return ["exported from a model that convert fuse has not made"]
    try:
        return describe(parse_fields(FuseRecord, manifest.provenance))
    except FieldError as error:
        return [f"its provenance cannot be read: {error}"]


def _inspect_base(path: Path) -> Result:
    base = read_base(path, path.resolve().name)
    lines = [f"{path}: a base model of the {FAMILY} family, in diffusers layout"]
    components: dict[str, Json] = {}
    for name, component in base.components.items():
        dtypes = component.dtypes()
        digest = sha256_file(component.file)
        lines.append(
            f"  {name}: {len(component.tensors)} tensors, {', '.join(dtypes)}, sha256 {digest}"
        )
        components[name] = {
            "file": component.file.name,
            "tensors": len(component.tensors),
            "dtypes": list(dtypes),
            "sha256": digest,
        }
    return Result(
        "\n".join(lines),
        {"kind": "base", "family": FAMILY, "layout": base.layout, "components": components},
    )
