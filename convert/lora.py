"""LoRA files with kohya's key names: their modules, their metadata, and what they are not."""

import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from convert.family import FAMILY, SD2, SDXL, WIDTHS
from convert.fuse_record import RankRecord
from convert.model import TEXT_ENCODER, UNET
from convert.tensors import FLOATS, StoredTensor, TensorFile, open_tensor_file
from engines.errors import InputError

DOWN: Final = "lora_down.weight"
UP: Final = "lora_up.weight"
ALPHA: Final = "alpha"

_PREFIXES: Final = {"lora_unet_": UNET, "lora_te_": TEXT_ENCODER}
_SDXL_PREFIXES: Final = ("lora_te1_", "lora_te2_")
_DIFFUSERS_PREFIXES: Final = ("unet.", "text_encoder.", "base_model.model.")
_VERSIONS: Final = {
    "sdxl": SDXL,
    "stable-diffusion-xl": SDXL,
    "sd_v2": SD2,
    "sd_2": SD2,
    "stable-diffusion-v2": SD2,
    "sd3": "Stable Diffusion 3",
    "stable-diffusion-3": "Stable Diffusion 3",
    "flux": "Flux",
}
"""How trainers name, at the start of a version or architecture, a family that is not ours."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoraModule:
    """The tensors by which a LoRA changes one layer.

    `key` is the module's name in the file, `component` the network that it names and `name` the
    layer in it, with underscores for dots. `tensors` go by what follows `key` and a dot.
    """

    key: str
    component: str
    name: str
    tensors: dict[str, StoredTensor]


@dataclass(frozen=True)
class Lora:
    """A LoRA file for the Stable Diffusion 1.x family.

    `strays` are the keys that name neither the UNet nor the text encoder. `trained_tags` has how
    often each tag was trained, the most frequent first.
    """

    path: Path
    modules: tuple[LoraModule, ...]
    strays: tuple[str, ...]
    trained_tags: dict[str, int]
    metadata: dict[str, str]


def read_lora(path: Path) -> Lora:
    """Read a LoRA file's keys and metadata, without the values of its tensors.

    Raises:
        InputError: the file is missing or damaged, no LoRA, or one of another family or naming.
    """
    file = open_tensor_file(path)
    _check_family(file)
    groups: dict[str, dict[str, StoredTensor]] = {}
    strays = []
    for key, tensor in file.tensors.items():
        module, _, role = key.partition(".")
        if any(module.startswith(prefix) for prefix in _PREFIXES) and role:
            groups.setdefault(module, {})[role] = tensor
        else:
            strays.append(key)
    if not groups:
        raise InputError(_no_lora(path, strays))
    modules = tuple(_module(key, tensors) for key, tensors in sorted(groups.items()))
    tags = read_trained_tags(path, file.metadata)
    return Lora(path, modules, tuple(sorted(strays)), tags, file.metadata)


def read_alpha(module: LoraModule) -> float | None:
    """The module's alpha, its rank where the file has none, or None for what is no number."""
    tensor = module.tensors.get(ALPHA)
    if tensor is None:
        down = module.tensors.get(DOWN)
        return float(down.shape[0]) if down and down.shape else None
    if tensor.dtype not in FLOATS or tensor.shape not in ((), (1,)):
        return None
    alpha = tensor.read_scalar()
    return alpha if math.isfinite(alpha) else None


def count_ranks(lora: Lora) -> tuple[RankRecord, ...]:
    """How many modules have which rank and alpha, for each component."""
    ranks: Counter[tuple[str, int, float]] = Counter()
    for module in lora.modules:
        down, alpha = module.tensors.get(DOWN), read_alpha(module)
        if down and down.shape and alpha is not None:
            ranks[module.component, down.shape[0], alpha] += 1
    return tuple(RankRecord(*key, count) for key, count in sorted(ranks.items()))


def looks_like_lora(keys: Iterable[str]) -> bool:
    """Whether a file with these keys is a LoRA of any family or naming."""
    prefixes = (*_PREFIXES, *_SDXL_PREFIXES)
    return any(key.startswith(prefixes) or ".lora" in key for key in keys)


def read_trained_tags(path: Path, metadata: Mapping[str, str]) -> dict[str, int]:
    """How often each tag was trained: `ss_tag_frequency` summed over its folders.

    Metadata that cannot be read are reported and count as none: the weights do not need them.
    """
    text = metadata.get("ss_tag_frequency", "")
    if not text:
        return {}
    counts: Counter[str] = Counter()
    try:
        for folder in json.loads(text).values():
            for tag, count in folder.items():
                if tag.strip():
                    counts[tag.strip()] += int(count)
    except (ValueError, TypeError, AttributeError, RecursionError):
        _log.warning("%s: its trained tags (ss_tag_frequency) cannot be read.", path)
        return {}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _module(key: str, tensors: dict[str, StoredTensor]) -> LoraModule:
    prefix = next(prefix for prefix in _PREFIXES if key.startswith(prefix))
    return LoraModule(key, _PREFIXES[prefix], key.removeprefix(prefix), tensors)


def _check_family(file: TensorFile) -> None:
    family = _family(file)
    if family != FAMILY:
        raise InputError(
            f"{file.path} is a LoRA for {family}; only LoRAs for the {FAMILY} family can be fused."
        )


def _family(file: TensorFile) -> str:
    """The family that a LoRA says or shows to be for, ours where nothing speaks against it."""
    for field in ("ss_base_model_version", "modelspec.architecture"):
        version = file.metadata.get(field, "").lower()
        for start, family in _VERSIONS.items():
            if version.startswith(start):
                return family
    if any(key.startswith(_SDXL_PREFIXES) for key in file.tensors):
        return SDXL
    for key, tensor in file.tensors.items():
        if key.endswith(f"attn2_to_k.{DOWN}") and len(tensor.shape) >= 2:
            return WIDTHS.get(tensor.shape[1], FAMILY)
    return FAMILY


def _no_lora(path: Path, keys: list[str]) -> str:
    if any(key.startswith(_DIFFUSERS_PREFIXES) for key in keys):
        return (
            f"{path} is a LoRA with diffusers' key names; this version reads kohya's only "
            "(lora_unet_..., lora_te_...)."
        )
    if not keys:
        return f"{path} holds no tensors."
    return f"{path} is not a LoRA: none of its {len(keys)} keys is a LoRA's, as {keys[0][:80]!r}."
