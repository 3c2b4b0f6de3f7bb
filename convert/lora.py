"""LoRA files: their modules, their metadata, and what they are not."""

import logging
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from convert.family import FAMILY, SD2, SDXL, WIDTHS
from convert.fuse_record import RankRecord
from convert.lora_keys import PEFT_PREFIX, LoraKey, parse_key
from convert.model import TEXT_ENCODER, UNET
from convert.peft_scale import PeftScale, read_config_scale, read_metadata_scales
from convert.tensors import FLOATS, StoredTensor, TensorFile
from convert.updates.difference import ALPHA
from convert.updates.low_rank import DOWN
from convert.updates.module import kind_of, rank_of
from convert.weight_file import open_weight_file
from engines.errors import InputError
from engines.fields import parse_json

_FOREIGN_PREFIXES: Final = {
    "lora_te1_": SDXL,
    "lora_te2_": SDXL,
    "text_encoder_2.": SDXL,
    "lora_transformer_": "a transformer such as Stable Diffusion 3 or Flux",
    "transformer.": "a transformer such as Stable Diffusion 3 or Flux",
}
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

    `key` is the module's name in the file, `component` the network that it names, and `name` the
    layer in it, with underscores for dots. `tensors` go by their roles (convert/lora_keys.py).
    `alpha` is the numerator of the scale alpha / rank: None where it is the rank, and not a number
    where the file has something else in its place.
    """

    key: str
    component: str
    name: str
    tensors: dict[str, StoredTensor]
    alpha: float | None

    def keys(self) -> list[str]:
        """The module's keys in the file."""
        return sorted(tensor.name for tensor in self.tensors.values())


@dataclass(frozen=True)
class Lora:
    """A LoRA file for the Stable Diffusion 1.x family.

    `strays` are the keys that name no layer of the UNet or the text encoder. `trained_tags` has
    how often each tag was trained, the most frequent first. `config_sha256` is the hash of the
    adapter_config.json that a file of PEFT's own has its scale in, and empty for others.
    """

    path: Path
    modules: tuple[LoraModule, ...]
    strays: tuple[str, ...]
    trained_tags: dict[str, int]
    metadata: dict[str, str]
    config_sha256: str


def read_lora(path: Path) -> Lora:
    """Read a LoRA file's keys and metadata, and of its tensors no values but the alphas.

    Raises:
        InputError: the file is missing or damaged, no LoRA, one of another family, or its scale
            is missing.
    """
    file = open_weight_file(path)
    parsed = {key: parse_key(key) for key in file.tensors}
    known = {key: part for key, part in parsed.items() if part is not None}
    family = lora_family(file)
    if family != FAMILY:
        raise InputError(
            f"{path} is a LoRA for {family}; only LoRAs for the {FAMILY} family can be fused."
        )
    if not known:
        raise InputError(_no_lora(path, list(parsed)))
    scales, config_sha256 = _read_scales(file, known)
    return Lora(
        path,
        _read_modules(file, known, scales),
        tuple(sorted(parsed.keys() - known.keys())),
        read_trained_tags(path, file.metadata),
        file.metadata,
        config_sha256,
    )


def lora_family(file: TensorFile) -> str:
    """The family that a LoRA says or shows to be for, ours where nothing speaks against it."""
    for field in ("ss_base_model_version", "modelspec.architecture"):
        version = file.metadata.get(field, "").lower()
        for start, family in _VERSIONS.items():
            if version.startswith(start):
                return family
    for start, family in _FOREIGN_PREFIXES.items():
        if any(key.startswith(start) for key in file.tensors):
            return family
    for key, tensor in file.tensors.items():
        part, shape = parse_key(key), tensor.shape
        if part and part.role == DOWN and part.name.endswith("attn2_to_k") and len(shape) >= 2:
            return WIDTHS.get(shape[1], FAMILY)
    return FAMILY


def count_ranks(lora: Lora) -> tuple[RankRecord, ...]:
    """How many modules are of which kind, rank and alpha, for each component."""
    counts: Counter[tuple[str, str, int | None, float | None]] = Counter()
    for module in lora.modules:
        rank, alpha = rank_of(module.tensors), module.alpha
        if rank is None or (alpha is not None and not math.isfinite(alpha)):
            alpha = None
        elif alpha is None:
            alpha = float(rank)
        counts[module.component, kind_of(module.tensors), rank, alpha] += 1
    rows = sorted(counts.items(), key=lambda item: (item[0][:2], item[0][2] or 0, item[0][3] or 0))
    return tuple(RankRecord(*key, count) for key, count in rows)


def read_trained_tags(path: Path, metadata: Mapping[str, str]) -> dict[str, int]:
    """How often each tag was trained: `ss_tag_frequency` summed over its folders.

    Metadata that cannot be read are reported and count as none: the weights do not need them.
    """
    text = metadata.get("ss_tag_frequency", "")
    if not text:
        return {}
    counts: Counter[str] = Counter()
    try:
        for folder in parse_json(text).values():
            for tag, count in folder.items():
                if tag.strip():
                    counts[tag.strip()] += int(count)
    except (ValueError, TypeError, AttributeError, OverflowError):
        _log.warning("%s: its trained tags (ss_tag_frequency) cannot be read.", path)
        return {}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _read_scales(file: TensorFile, keys: Mapping[str, LoraKey]) -> tuple[dict[str, PeftScale], str]:
    """The scales that PEFT has outside of the tensors, and the hash of the file that has them."""
    scales = read_metadata_scales(file.path, file.metadata)
    if not any(key.startswith(PEFT_PREFIX) for key in keys):
        return scales, ""
    scale, digest = read_config_scale(file.path)
    return dict.fromkeys((UNET, TEXT_ENCODER), scale) | scales, digest


def _read_modules(
    file: TensorFile, keys: Mapping[str, LoraKey], scales: Mapping[str, PeftScale]
) -> tuple[LoraModule, ...]:
    groups: dict[tuple[str, str], dict[str, StoredTensor]] = {}
    first: dict[tuple[str, str], LoraKey] = {}
    for key, part in keys.items():
        place = (part.component, part.name)
        tensors = groups.setdefault(place, {})
        if part.role in tensors:
            raise InputError(
                f"{file.path} has the same tensor twice, as {tensors[part.role].name[:200]} and "
                f"{key[:200]}. Get the file again."
            )
        tensors[part.role] = file.tensors[key]
        first.setdefault(place, part)
    return tuple(
        LoraModule(first[place].module, *place, tensors, _alpha(first[place], tensors, scales))
        for place, tensors in sorted(groups.items())
    )


def _alpha(
    key: LoraKey, tensors: Mapping[str, StoredTensor], scales: Mapping[str, PeftScale]
) -> float | None:
    if ALPHA in tensors:
        alpha = tensors[ALPHA]
        is_number = alpha.dtype in FLOATS and math.prod(alpha.shape) == 1
        return alpha.read_scalar() if is_number else math.nan
    rank = rank_of(tensors)
    if key.component not in scales or rank is None:
        return None
    return scales[key.component].alpha_of(key.path, rank)


def _no_lora(path: Path, keys: list[str]) -> str:
    if not keys:
        return f"{path} holds no tensors."
    return f"{path} is not a LoRA: none of its {len(keys)} keys is a LoRA's, as {keys[0][:80]!r}."
