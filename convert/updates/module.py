"""From a module's tensors to its algebra, and to the differences that it makes."""

from collections.abc import Mapping
from typing import Final

from convert.updates import dora
from convert.updates.difference import (
    ALPHA,
    Algebra,
    Difference,
    MisfitError,
    Shape,
    Tensors,
    require,
    scale,
)
from convert.updates.dora import Dora
from convert.updates.full import BIAS_ROLES, Full
from convert.updates.ia3 import Ia3
from convert.updates.loha import LoHa
from convert.updates.lokr import LoKr
from convert.updates.low_rank import UP, LowRank

UP_BIAS: Final = "lora_up.bias"
"""PEFT's bias of the up factor, which the scale multiplies as it does the product."""

_ALGEBRAS: Final[tuple[type[Algebra], ...]] = (LowRank, LoHa, LoKr, Full, Ia3)
_DECOMPOSED: Final = (LowRank, LoHa, LoKr)
_UNSUPPORTED: Final = (
    ("oft_", "OFT"),
    ("boft_", "BOFT"),
    ("a1.weight", "GLoRA"),
    ("a2.weight", "GLoRA"),
    ("b1.weight", "GLoRA"),
    ("b2.weight", "GLoRA"),
    ("bias_", "a sparse bias"),
    ("lora_E", "AdaLoRA"),
    ("ia3_l", "PEFT's IA3"),
    ("vera_", "VeRA"),
    ("set_weight", "a replaced weight"),
)


def algebra_of(roles: Mapping[str, object]) -> type[Algebra] | None:
    """The algebra that a module's tensors are of; None where only a bias, or nothing known, is.

    Raises:
        MisfitError: they are of two.
    """
    found = [algebra for algebra in _ALGEBRAS if algebra.roles & roles.keys()]
    if len(found) > 1:
        raise MisfitError(f"of two kinds, {found[0].__name__} and {found[1].__name__}")
    return found[0] if found else None


def unknown_roles(tensors: Tensors) -> dict[str, str]:
    """The module's tensors that no algebra takes, each with what it is."""
    algebra = algebra_of(tensors)
    if tensors.keys() == {ALPHA}:
        return {ALPHA: "with nothing to scale"}
    known = {ALPHA, *BIAS_ROLES}
    known |= algebra.roles if algebra else set()
    if algebra in _DECOMPOSED:
        known |= dora.ROLES
    if algebra is LowRank:
        known.add(UP_BIAS)
    return {role: _name(role) for role in tensors if role not in known}


def kind_of(tensors: Tensors) -> str:
    """What people call a module with these tensors."""
    try:
        algebra = algebra_of(tensors)
    except MisfitError:
        return "mixed"
    if unknown_roles(tensors):
        return "unknown"
    if algebra is None:
        return "bias" if tensors.keys() & set(BIAS_ROLES) else "unknown"
    kind = algebra.kind_of(tensors)
    return f"DoRA of {kind}" if tensors.keys() & dora.ROLES else kind


def rank_of(tensors: Tensors) -> int | None:
    """The rank of a module, as the headers say; None where it has none."""
    try:
        algebra = algebra_of(tensors)
    except MisfitError:
        return None
    return algebra.rank_of(tensors) if algebra else None


def fit_weight(tensors: Tensors, alpha: float | None, shape: Shape) -> Difference | None:
    """What the module adds to a layer's weight of this shape; None where it has only a bias.

    Raises:
        IncompleteError: a tensor is missing.
        MisfitError: a shape or a dtype does not fit.
    """
    algebra = algebra_of(tensors)
    if algebra is None:
        return None
    difference = algebra.fit(tensors, alpha, shape)
    if dora.ROLES & tensors.keys():
        return Dora.fit(difference, tensors, shape)
    return difference


def fit_bias(tensors: Tensors, alpha: float | None, shape: Shape | None) -> Difference | None:
    """What the module adds to a layer's bias of this shape; None where it has nothing for it.

    Raises:
        MisfitError: a shape or a dtype does not fit, or the layer has no bias (`shape` is None).
    """
    roles = [role for role in (*BIAS_ROLES, UP_BIAS) if role in tensors]
    if not roles:
        return None
    if len(roles) > 1:
        raise MisfitError(f"{roles[0]} and {roles[1]} exclude each other")
    if shape is None:
        raise MisfitError(f"{roles[0]} for a layer that has no bias")
    if roles[0] != UP_BIAS:
        return Full.fit_role(tensors, roles[0], shape)
    (up,) = require(tensors, UP)
    rank = up.shape[1] if len(up.shape) > 1 else 0
    if not rank:
        raise MisfitError(f"{UP} has no rank")
    return Full.fit_role(tensors, UP_BIAS, shape, scale(alpha, rank))


def _name(role: str) -> str:
    return next((name for start, name in _UNSUPPORTED if role.startswith(start)), "unknown")
