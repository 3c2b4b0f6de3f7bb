"""Matching a LoRA's modules with the layers of the base that they change."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from convert.lora import ALPHA, DOWN, UP, Lora, LoraModule, read_alpha
from convert.model import BaseModel
from convert.tensors import FLOATS, StoredTensor
from engines.errors import InputError

_NAMED_FAULTS: Final = 50
_KINDS: Final = (
    ("lora_mid", "LoCon with a middle factor"),
    ("hada_", "LoHa"),
    ("lokr_", "LoKr"),
    ("dora_scale", "DoRA"),
    ("diff", "full difference"),
    ("w_norm", "norm"),
    ("b_norm", "norm"),
    ("on_input", "IA3"),
)


@dataclass(frozen=True)
class LowRankUpdate:
    """What one LoRA adds to one weight: alpha / rank · up · down, times the LoRA's weight.

    `target` is the weight's name in `component`. `down` is [rank, inputs] or [rank, inputs, h, w];
    `up` is [outputs, rank] or [outputs, rank, 1, 1].
    """

    key: str
    component: str
    target: str
    down: StoredTensor
    up: StoredTensor
    alpha: float

    @property
    def rank(self) -> int:
        """The inner dimension of up · down."""
        return self.down.shape[0]


@dataclass
class _Faults:
    unmatched: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    unfit: list[str] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)


def match_loras(loras: Sequence[Lora], base: BaseModel) -> list[list[LowRankUpdate]]:
    """For each LoRA, its updates of the base's weights; every key is used.

    Raises:
        InputError: keys match nothing in the base, a shape does not fit, or a module is
            incomplete or of an unknown kind; the one error names them all, up to a limit.
    """
    layers = {
        (component.name, name.replace(".", "_")): (f"{name}.weight", weight)
        for component in base.components.values()
        for name, weight in component.layers().items()
    }
    updates: list[list[LowRankUpdate]] = []
    reports: list[str] = []
    for lora in loras:
        faults = _Faults(unmatched=list(lora.strays))
        matched = []
        for module in lora.modules:
            layer = layers.get((module.component, module.name))
            if layer is None:
                faults.unmatched.append(module.key)
                continue
            update = _match_module(module, *layer, faults)
            if update is not None:
                matched.append(update)
        updates.append(matched)
        reports += _describe(lora, faults)
    if reports:
        raise InputError(
            f"What is to be fused does not fit the base {base.name}: {'; '.join(reports)}."
        )
    return updates


def _match_module(
    module: LoraModule, target: str, weight: StoredTensor, faults: _Faults
) -> LowRankUpdate | None:
    unknown = [role for role in module.tensors if role not in (DOWN, UP, ALPHA)]
    if unknown:
        faults.unsupported += [f"{module.key}.{role} ({_kind(role)})" for role in unknown]
        return None
    missing = [role for role in (DOWN, UP) if role not in module.tensors]
    if missing:
        faults.incomplete.append(f"{module.key} (no {' and no '.join(missing)})")
        return None
    down, up = module.tensors[DOWN], module.tensors[UP]
    alpha = read_alpha(module)
    if alpha is None or down.dtype not in FLOATS or up.dtype not in FLOATS:
        faults.unfit.append(f"{module.key} (alpha is no finite number, or a dtype no float)")
        return None
    if not _fits(down.shape, up.shape, weight.shape):
        shapes = f"{_by(up.shape)} · {_by(down.shape)} for {_by(weight.shape)}"
        faults.unfit.append(f"{module.key} ({shapes})")
        return None
    return LowRankUpdate(module.key, module.component, target, down, up, alpha)


def _fits(down: tuple[int, ...], up: tuple[int, ...], weight: tuple[int, ...]) -> bool:
    """Whether up · down, with the kernel axes of `down`, has the shape of `weight`."""
    if len(down) not in (2, 4) or len(up) not in (2, 4) or set(up[2:]) - {1}:
        return False
    rank, inputs, kernel = down[0], down[1], down[2:] or (1, 1)
    return (
        rank > 0
        and up[1] == rank
        and up[0] == weight[0]
        and inputs == weight[1]
        and kernel == (weight[2:] or (1, 1))
    )


def _kind(role: str) -> str:
    return next((kind for start, kind in _KINDS if role.startswith(start)), "unknown kind")


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _describe(lora: Lora, faults: _Faults) -> list[str]:
    kinds = (
        (faults.unmatched, "keys that match nothing in the base"),
        (faults.incomplete, "incomplete modules"),
        (faults.unfit, "modules of a shape or value that does not fit"),
        (faults.unsupported, "keys of a kind that this version cannot fuse"),
    )
    return [f"{lora.path}: {what} ({len(names)}): {_list(names)}" for names, what in kinds if names]


def _list(names: list[str]) -> str:
    text = ", ".join(name[:200] for name in names[:_NAMED_FAULTS])
    rest = len(names) - _NAMED_FAULTS
    return f"{text} and {rest} more" if rest > 0 else text
