"""Matching a LoRA's modules with the tensors of the base that they change."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from convert.layer_names import find_original, layers_by_name, original_names
from convert.lora import Lora, LoraModule
from convert.model import UNET, BaseModel, Component
from convert.updates.difference import Difference, IncompleteError, MisfitError, Shape
from convert.updates.module import fit_bias, fit_weight, unknown_roles
from engines.errors import InputError

_NAMED_FAULTS: Final = 50
_INPUT_LAYER: Final = "conv_in"
_LATENT_CHANNELS: Final = 4

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Update:
    """What one LoRA adds to one tensor of the base, before the LoRA's weight.

    `key` is the module's name in the LoRA's file, `target` the tensor's name in `component`.
    `shape` is that of the difference: the tensor's own, but for the first convolution of an
    inpainting UNet, where a LoRA of a plain one changes the first four input channels. `original`
    is the layer's name in the original layout, where it has one.
    """

    key: str
    component: str
    target: str
    shape: Shape
    difference: Difference
    original: str | None


@dataclass(frozen=True)
class Match:
    """A LoRA's updates of the base, and the keys that were left out."""

    updates: tuple[Update, ...]
    unmatched: tuple[str, ...]


@dataclass
class _Faults:
    unmatched: list[str] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    unfit: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Names:
    """A component's layers by the names that LoRA files have for them."""

    component: Component
    layers: Mapping[str, str]
    originals: Mapping[str, str]


def match_loras(
    loras: Sequence[Lora], base: BaseModel, *, allow_unmatched: bool = False
) -> list[Match]:
    """For each LoRA, its updates of the base's tensors; every key is used.

    Args:
        loras: as read from their files.
        base: what they are to be added to.
        allow_unmatched: whether keys that match nothing in the base, and modules of a kind that
            cannot be fused, are reported and left out. Damaged modules are errors all the same.

    Raises:
        InputError: keys match nothing in the base, a shape does not fit, or a module is
            incomplete or of an unknown kind; the one error names them all, up to a limit.
    """
    names = {
        component.name: _Names(
            component,
            layers_by_name(component),
            original_names(component.config) if component.name == UNET else {},
        )
        for component in base.components.values()
    }
    matches = []
    reports: list[str] = []
    for lora in loras:
        faults = _Faults(unmatched=list(lora.strays), left_out=list(lora.strays))
        updates = [
            update
            for module in lora.modules
            for update in _match_module(module, names[module.component], faults)
        ]
        _check_once(updates, faults)
        reports += _describe(lora, faults, allow_unmatched=allow_unmatched)
        if allow_unmatched and faults.left_out:
            if not updates:
                reports.append(f"{lora.path}: nothing in it can be fused")
            left_out = _list(faults.left_out)
            _log.warning(
                "%s: keys that are left out (%d): %s.", lora.path, len(faults.left_out), left_out
            )
        matches.append(Match(tuple(updates), tuple(sorted(faults.left_out))))
    if reports:
        raise InputError(
            f"What is to be fused does not fit the base {base.name}: {'; '.join(reports)}."
        )
    return matches


def _match_module(module: LoraModule, names: _Names, faults: _Faults) -> list[Update]:
    """The module's updates: of a layer's weight, of its bias, or of both."""
    layer = names.layers.get(module.name)
    if layer is None:
        faults.unmatched.append(module.key)
        faults.left_out += module.keys()
        return []
    try:
        unknown = unknown_roles(module.tensors)
        if not unknown:
            return _fit(module, layer, names)
    except IncompleteError as fault:
        faults.incomplete.append(f"{module.key} ({fault})")
        return []
    except MisfitError as fault:
        faults.unfit.append(f"{module.key} ({fault})")
        return []
    faults.unsupported += [f"{module.key}.{role} ({kind})" for role, kind in unknown.items()]
    faults.left_out += module.keys()
    return []


def _fit(module: LoraModule, layer: str, names: _Names) -> list[Update]:
    """The updates of one layer, as the headers allow them.

    Raises:
        IncompleteError, MisfitError: they do not fit; see `convert.updates`.
    """
    if module.alpha is not None and not math.isfinite(module.alpha):
        raise MisfitError("alpha is no finite number")
    tensors = names.component.tensors
    shape = _shape_for(module, layer, tensors[f"{layer}.weight"].shape)
    bias = tensors.get(f"{layer}.bias")
    bias_shape = bias.shape if bias else None
    differences = {
        f"{layer}.weight": (shape, fit_weight(module.tensors, module.alpha, shape)),
        f"{layer}.bias": (bias_shape or (), fit_bias(module.tensors, module.alpha, bias_shape)),
    }
    original = find_original(layer, names.originals)
    return [
        Update(module.key, module.component, target, shape, difference, original)
        for target, (shape, difference) in differences.items()
        if difference is not None
    ]


def _shape_for(module: LoraModule, layer: str, weight: Shape) -> Shape:
    """The shape of the part of a weight that a module can change.

    An inpainting UNet reads five more channels than a plain one: the mask and the masked picture.
    What was trained on a plain one changes the others, as in the webui.
    """
    if module.component != UNET or layer != _INPUT_LAYER or weight[1] == _LATENT_CHANNELS:
        return weight
    try:
        fit_weight(module.tensors, module.alpha, weight)
    except MisfitError:
        return (weight[0], _LATENT_CHANNELS, *weight[2:])
    return weight


def _check_once(updates: Sequence[Update], faults: _Faults) -> None:
    """A tensor that two modules of one file change, under two names, is a fault."""
    first: dict[tuple[str, str], str] = {}
    for update in updates:
        key = first.setdefault((update.component, update.target), update.key)
        if key != update.key:
            faults.unfit.append(f"{update.key} (the same layer as {key})")


def _describe(lora: Lora, faults: _Faults, *, allow_unmatched: bool) -> list[str]:
    kinds = [
        (faults.incomplete, "incomplete modules"),
        (faults.unfit, "modules of a shape or value that does not fit"),
    ]
    if not allow_unmatched:
        kinds += [
            (faults.unmatched, "keys that match nothing in the base"),
            (faults.unsupported, "keys of a kind that this version cannot fuse"),
        ]
    return [f"{lora.path}: {what} ({len(names)}): {_list(names)}" for names, what in kinds if names]


def _list(names: list[str]) -> str:
    text = ", ".join(name[:200] for name in names[:_NAMED_FAULTS])
    rest = len(names) - _NAMED_FAULTS
    return f"{text} and {rest} more" if rest > 0 else text
