"""`convert inspect`: what a file or directory is."""

import argparse
from dataclasses import asdict
from pathlib import Path

from convert.base import read_base
from convert.commands.fuse import describe
from convert.family import FAMILY
from convert.fuse_record import read_record
from convert.lora import count_ranks, looks_like_lora, read_lora
from convert.tensors import open_tensor_file
from engines import layout
from engines.bundle import open_bundle
from engines.console import Result, add_common_arguments
from engines.errors import InputError
from engines.identity import Json, sha256_file


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = commands.add_parser(
        "inspect",
        help="say what a file or directory is",
        description="Say what a LoRA, base model, fused model or bundle is and holds.",
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
        return _inspect_file(path)
    if (path / layout.BUNDLE_FILE).is_file():
        return _inspect_bundle(path)
    if (path / layout.FUSE_FILE).is_file():
        return _inspect_fused(path)
    return _inspect_base(path)


def _inspect_file(path: Path) -> Result:
    file = open_tensor_file(path)
    digest = sha256_file(path)
    hashes = f"sha256 {digest}, AutoV2 {digest[:10].upper()}"
    value: dict[str, Json] = {"sha256": digest, "autov2": digest[:10].upper()}
    if looks_like_lora(file.tensors):
        return _inspect_lora(path, hashes, value)
    text = f"{path}: a safetensors file of {len(file.tensors)} tensors, no LoRA\n  {hashes}"
    dtypes = sorted({tensor.dtype for tensor in file.tensors.values()})
    return Result(
        f"{text}\n  dtypes: {', '.join(dtypes)}",
        {"kind": "tensors", "tensors": len(file.tensors), "dtypes": list(dtypes), **value},
    )


def _inspect_lora(path: Path, hashes: str, value: dict[str, Json]) -> Result:
    lora = read_lora(path)
    lines = [f"{path}: a LoRA for {FAMILY} with {len(lora.modules)} modules", f"  {hashes}"]
    ranks = count_ranks(lora)
    lines += [
        f"  {r.component}: {r.modules} modules of rank {r.rank}, alpha {r.alpha:g}" for r in ranks
    ]
    lines += [f"  trained tag: {tag} ({count})" for tag, count in lora.trained_tags.items()]
    return Result(
        "\n".join(lines),
        {
            "kind": "lora",
            "family": FAMILY,
            "modules": len(lora.modules),
            "ranks": [asdict(rank) for rank in ranks],
            "trained_tags": dict(lora.trained_tags),
            "metadata": dict(lora.metadata),
            **value,
        },
    )


def _inspect_bundle(path: Path) -> Result:
    manifest = open_bundle(path).manifest
    lines = [f"{path}: a bundle, {manifest.name}, identity {manifest.identity[:10]}"]
    lines += [
        f"  {name}: {component.graph}, {component.dtype}"
        for name, component in manifest.components.items()
    ]
    lines += [
        f"  trained tag of {lora}: {tag} ({count})"
        for lora, tags in manifest.trained_tags.items()
        for tag, count in tags.items()
    ]
    return Result("\n".join(lines), {"kind": "bundle", "manifest": asdict(manifest)})


def _inspect_fused(path: Path) -> Result:
    record = read_record(path / layout.FUSE_FILE)
    lines = [f"{path}: a fused model, identity {record.identity[:10]}", *describe(record)]
    return Result("\n".join(lines), {"kind": "fused", "record": asdict(record)})


def _inspect_base(path: Path) -> Result:
    base = read_base(path, path.resolve().name)
    lines = [f"{path}: a base model of the {FAMILY} family, in diffusers layout"]
    components: dict[str, Json] = {}
    for name, component in base.components.items():
        dtypes = sorted({tensor.dtype for tensor in component.tensors.values()})
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
    return Result("\n".join(lines), {"kind": "base", "family": FAMILY, "components": components})
