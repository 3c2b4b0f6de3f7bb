"""IA3: one factor for each input or output."""

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar, Final, Self

from convert.tensors import FLOATS, StoredTensor
from convert.updates.difference import (
    Algebra,
    IncompleteError,
    Load,
    MisfitError,
    Shape,
    Tensors,
    by,
    is_layer,
    require,
)

if TYPE_CHECKING:
    import torch

VALUES: Final = "weight"
ON_INPUT: Final = "on_input"

_FLAGS: Final = frozenset({"I64", "I32", "I16", "I8", "U8", "BOOL"})


@dataclass(frozen=True)
class Ia3(Algebra):
    """W ⊙ v, with one number of v for each of the layer's inputs or outputs.

    The layer then multiplies that input or output by 1 + weight · v. `on_input` says which.

    Source: Liu et al., (IA)³, arXiv 2205.05638, section 3.3; lycoris/modules/ia3.py, where v is
    the difference from 1.
    """

    roles: ClassVar = frozenset({VALUES, ON_INPUT})
    needs_base: ClassVar = True

    values: StoredTensor
    on_input: bool

    @classmethod
    def fit(cls, tensors: Tensors, alpha: float | None, shape: Shape) -> Self:  # noqa: D102
        (values,) = require(tensors, VALUES)
        flag = tensors.get(ON_INPUT)
        if flag is None:
            raise IncompleteError(f"no {ON_INPUT}")
        if flag.dtype not in (*FLOATS, *_FLAGS) or prod(flag.shape) != 1:
            raise MisfitError(f"{ON_INPUT} of {flag.dtype} {by(flag.shape)} is no single value")
        on_input = flag.read_scalar() != 0
        if not is_layer(shape) or prod(values.shape) != shape[on_input] or not values.shape:
            side = "inputs" if on_input else "outputs"
            raise MisfitError(f"{by(values.shape)} for the {side} of {by(shape)}")
        return cls(values, on_input)

    @classmethod
    def kind_of(cls, tensors: Tensors) -> str:  # noqa: D102
        return "IA3"

    def delta(self, base: "torch.Tensor", load: Load, weight: float) -> "torch.Tensor":  # noqa: D102
        axes = [1] * base.dim()
        axes[self.on_input] = -1
        return base * load(self.values).mul_(weight).reshape(axes)
