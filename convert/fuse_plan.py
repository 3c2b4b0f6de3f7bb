"""Planning a fuse: every input read, checked and hashed before anything is written."""

import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Final

from convert.base import read_base
from convert.block_weights import block_weight
from convert.export_options import DTYPES
from convert.family import FAMILY
from convert.fuse_record import (
    BaseRecord,
    Coverage,
    FuseRecord,
    LoraRecord,
    read_record,
)
from convert.hashing import find_changed, hash_files, start_hashing
from convert.lora import Lora, count_ranks, read_lora
from convert.match import Match, Update, match_loras
from convert.model import TEXT_ENCODER, UNET, BaseModel, Component
from convert.recipe import Recipe, RecipeLora
from convert.sources import find_base, find_file, hash_checked, is_hub_id
from engines import __version__, layout
from engines.errors import InputError, SettingError
from engines.identity import Json, identity_of, tool_versions

KEEP_DTYPE: Final = "base"
"""The output dtype that leaves every tensor in the base's own."""


@dataclass(frozen=True)
class PlannedLora:
    """One LoRA of a plan: its record, and what it adds to which tensor."""

    record: LoraRecord
    updates: tuple[Update, ...]

    def weight_for(self, update: Update) -> float:
        """The weight with which an update enters: that of its component times its block's."""
        record = self.record
        is_text = update.component == TEXT_ENCODER
        weight = record.text_encoder_weight if is_text else record.weight
        return weight * block_weight(record.block_weights, update.component, update.original)


@dataclass(frozen=True)
class FusePlan:
    """A fuse that can be run: its inputs fit.

    `draft` is what fuse.json will say, but for the identity, the `hashes` of the base's weights,
    which are being taken, and the output's files. `alphas` are those of each LoRA's modules, which
    the record only counts, and which PEFT has in a file of their own.
    """

    base: BaseModel
    loras: tuple[PlannedLora, ...]
    draft: FuseRecord
    alphas: list[Json]
    hashes: "Future[dict[str, str]]"

    @cached_property
    def record(self) -> FuseRecord:
        """What fuse.json will say, but for the output's files; waits until all is hashed.

        Raises:
            InputError: the base has changed since its headers were read.
        """
        files = {**self.draft.base.files, **self.hashes.result()}
        self.base.check_unchanged()
        record = replace(
            self.draft, base=replace(self.draft.base, files=dict(sorted(files.items())))
        )
        parts = asdict(record)
        del parts["identity"], parts["files"], parts["base"]["name"]
        parts["alphas"] = self.alphas
        return replace(record, identity=identity_of(parts))

    @property
    def identity(self) -> str:
        """The hash of everything that the fused model depends on."""
        return self.record.identity

    def is_fulfilled_by(self, directory: Path, *, progress: bool = False) -> bool:
        """Whether `directory` holds the finished output of this very plan, byte for byte."""
        if not (directory / layout.FUSE_FILE).is_file():
            return False
        try:
            record = read_record(directory / layout.FUSE_FILE)
        except InputError:
            return False
        return record.identity == self.identity and not find_changed(
            directory, record.files, progress=progress
        )


def plan_fuse(
    recipe: Recipe,
    weights: Sequence[float] | None = None,
    text_encoder_weights: Sequence[float] | None = None,
    *,
    dtype: str = KEEP_DTYPE,
    vae: Path | None = None,
    allow_unmatched: bool = False,
    progress: bool = True,
) -> FusePlan:
    """Read and check everything that a fuse needs, and begin to hash the base.

    Args:
        recipe: what to fuse.
        weights: one for each LoRA in the recipe's order, instead of the recipe's own.
        text_encoder_weights: the same for the text encoder; by default as for the UNet.
        dtype: `fp16`, `fp32`, or `base` to keep each tensor's own.
        vae: a VAE that replaces the base's; see `convert.base.read_base`.
        allow_unmatched: whether keys of a LoRA that match nothing are left out; see `match_loras`.
        progress: whether downloads and hashing show their progress.

    Raises:
        SettingError: a number of weights that is not the number of LoRAs, or an unknown dtype.
        InputError: an input is missing, damaged or does not fit.
    """
    if dtype not in (KEEP_DTYPE, *DTYPES):
        raise SettingError(f"The dtype {dtype!r} is not one of {KEEP_DTYPE}, {', '.join(DTYPES)}.")
    names = [lora.name for lora in recipe.loras]
    unet_weights = check_weights(
        names, [lora.weight for lora in recipe.loras] if weights is None else weights
    )
    text_weights = check_weights(
        names, unet_weights if text_encoder_weights is None else text_encoder_weights
    )
    base_path = find_base(recipe.base, progress=progress)
    paths = [
        find_file(lora.source, lora.file, lora.sha256, progress=progress) for lora in recipe.loras
    ]
    base_name = recipe.base if is_hub_id(recipe.base) else base_path.resolve().name
    base = read_base(base_path, base_name, vae)
    hashes = start_hashing(base.weight_files(), progress=progress)
    loras = [read_lora(path) for path in paths]
    matches = match_loras(loras, base, allow_unmatched=allow_unmatched)
    planned = tuple(
        PlannedLora(
            _record_lora(
                wanted,
                hash_checked(lora.path, wanted.sha256),
                lora,
                matches[i],
                base,
                (unet_weights[i], text_weights[i]),
            ),
            matches[i].updates,
        )
        for i, (wanted, lora) in enumerate(zip(recipe.loras, loras, strict=True))
    )
    draft = FuseRecord(
        identity="",
        recipe=recipe.name,
        base=_record_base(base),
        loras=tuple(lora.record for lora in planned),
        dtype=dtype,
        tools={"fracture-sd": __version__, **tool_versions(["torch"])},
        files={},
        defaults=recipe.defaults,
        presets=recipe.presets,
    )
    alphas: list[Json] = [[module.alpha for module in lora.modules] for lora in loras]
    return FusePlan(base, planned, draft, alphas, hashes)


def check_weights(names: Sequence[str], weights: Sequence[float]) -> list[float]:
    """The weights, one finite number for each LoRA.

    Raises:
        SettingError: there are more or fewer than LoRAs, or one is not finite.
    """
    if len(weights) != len(names):
        order = ", ".join(names) or "none"
        raise SettingError(
            f"{len(weights)} weights were given, and there are {len(names)} LoRAs. Give one "
            f"weight for each, separated by commas, in this order: {order}."
        )
    for name, weight in zip(names, weights, strict=True):
        if not math.isfinite(weight):
            raise SettingError(f"The weight of {name} is {weight}; give a finite number.")
    return [float(weight) for weight in weights]


def hash_base(base: BaseModel, *, progress: bool = False) -> dict[str, str]:
    """The sha256 of all that is read of the base, by the names that records have.

    Args:
        base: the model.
        progress: as `hash_files` has it.
    """
    hashes = _hash_documents(base) | hash_files(base.weight_files(), progress=progress)
    return dict(sorted(hashes.items()))


def _hash_documents(base: BaseModel) -> dict[str, str]:
    hashes = {name: sha256(content).hexdigest() for name, content in base.documents.items()}
    for component in base.components.values():
        hashes[f"{component.name}/config.json"] = identity_of(component.config)
    return hashes


def _record_base(base: BaseModel) -> BaseRecord:
    return BaseRecord(
        name=base.name,
        family=FAMILY,
        layout=base.layout,
        input_channels=base.components[UNET].config["in_channels"],
        dtypes={name: component.dtypes() for name, component in base.components.items()},
        ignored=base.ignored,
        files=_hash_documents(base),
    )


def _record_lora(
    wanted: RecipeLora,
    digest: str,
    lora: Lora,
    match: Match,
    base: BaseModel,
    weights: tuple[float, float],
) -> LoraRecord:
    return LoraRecord(
        name=wanted.name,
        sha256=digest,
        config_sha256=lora.config_sha256,
        autov2=digest[:10].upper(),
        weight=weights[0],
        text_encoder_weight=weights[1],
        block_weights=wanted.block_weights,
        ranks=count_ranks(lora),
        coverage={
            component: _coverage(match, base.components[component])
            for component in (UNET, TEXT_ENCODER)
        },
        unmatched=match.unmatched,
        trained_tags=lora.trained_tags,
    )


def _coverage(match: Match, component: Component) -> Coverage:
    layers = component.layers()
    touched = {
        update.target.rpartition(".")[0]
        for update in match.updates
        if update.component == component.name
    }
    return Coverage(touched=len(touched & layers.keys()), layers=len(layers))
