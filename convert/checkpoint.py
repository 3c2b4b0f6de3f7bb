"""Reading a model, or a VAE, from a single file.

A file has no configurations: those of Stable Diffusion 1.5 are in data/stable_diffusion_1, written
from the numbers that its authors published, and CLIP's vocabulary is in data/clip.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from convert.clip_vocabulary import clip_tokenizer_files
from convert.diffusers_directory import canonical_tensors
from convert.family import FAMILY
from convert.json_file import dump_json, read_bytes, read_json
from convert.kinds import CHECKPOINT, DIFFUSERS_VAE, INPAINTING, LDM_VAE, Kind, recognise
from convert.ldm import (
    IGNORED,
    INPUT_CONVOLUTION,
    PREFIXES,
    rename,
    unet_modules,
    vae_modules,
)
from convert.model import LDM, TEXT_ENCODER, UNET, VAE, BaseModel, Component
from convert.tensors import StoredTensor, TensorFile
from convert.weight_file import open_weight_file
from engines import layout
from engines.errors import InputError

CONFIGURATION: Final = Path(__file__).parent / "data" / "stable_diffusion_1"
"""Stable Diffusion 1.5's configurations, in the form of a diffusers directory without weights."""

_INPAINTING_PIPELINE: Final = "StableDiffusionInpaintPipeline"
_NAMES: Final = {TEXT_ENCODER: "text encoder", UNET: "UNet", VAE: "VAE"}
_VELOCITY: Final = re.compile(rb"""parameterization:\s*["']?v\b""")
_NAMED_FAULTS: Final = 20
_MAX_YAML: Final = 1 << 16

_log = logging.getLogger(__name__)


def read_checkpoint(
    path: Path, name: str, parts: Iterable[str], configuration: Path = CONFIGURATION
) -> BaseModel:
    """Read a model from a checkpoint in the original layout, without its weights' values.

    Args:
        path: a file of safetensors or torch.save.
        name: what the model is called in records.
        parts: the components to read.
        configuration: a diffusers directory whose configurations the checkpoint's networks have.

    Raises:
        InputError: the file is damaged, no checkpoint, of another family, or lacks a part.
    """
    file = open_weight_file(path)
    kind = recognise(file)
    _check_kind(path, kind)
    groups, ignored = split_checkpoint(file)
    parts = tuple(parts)
    missing = [_NAMES[part] for part in parts if part not in groups]
    if missing:
        advice = " Give one with --vae." if missing == [_NAMES[VAE]] else ""
        raise InputError(f"{path} is incomplete: it has no {' and no '.join(missing)}.{advice}")
    components = {}
    for part in parts:
        config = read_json(configuration / part / "config.json")
        if part == UNET:
            config["in_channels"] = file.tensors[INPUT_CONVOLUTION].shape[1]
        tensors = _renamed(path, part, groups[part], config)
        components[part] = Component(part, config, canonical_tensors(part, tensors, path), path)
    return BaseModel(
        name, LDM, components, _documents(configuration, inpainting=kind == INPAINTING), ignored
    )


def read_vae_file(path: Path, configuration: Path = CONFIGURATION) -> Component:
    """Read a VAE from a file of its own in either layout, or from a checkpoint.

    Args:
        path: a file of safetensors or torch.save.
        configuration: a diffusers directory whose VAE has the same architecture.

    Raises:
        InputError: the file is damaged or has no VAE.
    """
    file = open_weight_file(path)
    kind = recognise(file)
    if kind not in (LDM_VAE, DIFFUSERS_VAE, CHECKPOINT, INPAINTING):
        raise InputError(f"{path} is {kind.what}, not a VAE for the {FAMILY} family.")
    config = read_json(configuration / VAE / "config.json")
    if kind == DIFFUSERS_VAE:
        return Component(VAE, config, canonical_tensors(VAE, file.tensors, path), path)
    has_prefix = any(name.startswith(PREFIXES[VAE]) for name in file.tensors)
    prefix = PREFIXES[VAE] if has_prefix or kind != LDM_VAE else ""
    group = {
        name.removeprefix(prefix): tensor
        for name, tensor in file.tensors.items()
        if name.startswith(prefix) and _ignored_kind(name) is None
    }
    if not group:
        raise InputError(f"{path} is {kind.what} without a VAE.")
    tensors = _renamed(path, VAE, group, config)
    return Component(VAE, config, canonical_tensors(VAE, tensors, path), path)


def _check_kind(path: Path, kind: Kind) -> None:
    if kind not in (CHECKPOINT, INPAINTING):
        advice = f" {kind.advice}" if kind.advice else ""
        raise InputError(
            f"{path} is {kind.what}; only checkpoints and diffusers directories of the {FAMILY} "
            f"family can be converted.{advice}"
        )
    sidecar = path.with_suffix(".yaml")
    if sidecar.is_file() and _VELOCITY.search(read_bytes(sidecar)[:_MAX_YAML]):
        raise InputError(
            f"{path} is a v-prediction checkpoint, as {sidecar.name} beside it says; only the "
            f"{FAMILY} family can be converted."
        )


def split_checkpoint(
    file: TensorFile,
) -> tuple[dict[str, dict[str, StoredTensor]], dict[str, int]]:
    """Part a checkpoint's tensors by component.

    Returns:
        The tensors of each component that is there, by their names without the component's prefix;
        and how many are no part of any, by kind. What is of no known kind is reported.
    """
    groups: dict[str, dict[str, StoredTensor]] = {}
    ignored: dict[str, int] = {}
    others = []
    for name, tensor in file.tensors.items():
        kind = _ignored_kind(name)
        part = next((part for part, start in PREFIXES.items() if name.startswith(start)), None)
        if kind is None and part is not None:
            groups.setdefault(part, {})[name.removeprefix(PREFIXES[part])] = tensor
            continue
        if kind is None:
            kind = "other"
            others.append(name)
        ignored[kind] = ignored.get(kind, 0) + 1
    if others:
        _log.warning(
            "%s: %d tensors are no part of the model and are left out: %s",
            file.path,
            len(others),
            _list(others),
        )
    return groups, dict(sorted(ignored.items()))


def _ignored_kind(name: str) -> str | None:
    if name.endswith("embeddings.position_ids"):
        return "position_ids"
    return next((kind for kind, starts in IGNORED.items() if name.startswith(starts)), None)


def _renamed(
    path: Path, part: str, group: Mapping[str, StoredTensor], config: Mapping[str, Any]
) -> dict[str, StoredTensor]:
    """A component's tensors by their names in diffusers' layout."""
    if part == TEXT_ENCODER:
        return dict(group)
    modules = unet_modules(config) if part == UNET else vae_modules(config)
    tensors: dict[str, StoredTensor] = {}
    unknown = []
    for name, tensor in group.items():
        renamed = rename(name, modules)
        if renamed is None:
            unknown.append(tensor.name)
        else:
            tensors[renamed] = _as_linear(renamed, tensor)
    if unknown:
        raise InputError(
            f"{path} is not of the {FAMILY} family: {len(unknown)} tensors have no place in its "
            f"{_NAMES[part]}: {_list(unknown)}."
        )
    return tensors


def _as_linear(name: str, tensor: StoredTensor) -> StoredTensor:
    """The weights of the VAE's attention are 1x1 convolutions in the original layout."""
    is_attention = ".to_" in name and name.startswith(("encoder.", "decoder."))
    if is_attention and len(tensor.shape) > 2 and set(tensor.shape[2:]) == {1}:
        return replace(tensor, shape=tensor.shape[:2])
    return tensor


def _documents(configuration: Path, *, inpainting: bool) -> dict[str, bytes]:
    index = read_json(configuration / layout.MODEL_INDEX_FILE)
    if inpainting:
        index["_class_name"] = _INPAINTING_PIPELINE
    tokenizer = clip_tokenizer_files()
    return {
        layout.MODEL_INDEX_FILE: dump_json(index),
        layout.SCHEDULER_FILE: read_bytes(configuration / layout.SCHEDULER_FILE),
        **{f"{layout.TOKENIZER_DIRECTORY}/{name}": text for name, text in tokenizer.items()},
    }


def _list(names: list[str]) -> str:
    text = ", ".join(name[:120] for name in sorted(names)[:_NAMED_FAULTS])
    rest = len(names) - _NAMED_FAULTS
    return f"{text} and {rest} more" if rest > 0 else text
