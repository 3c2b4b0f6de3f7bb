"""Full differences: of weights, of norms and of biases."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Self

from convert.tensors import StoredTensor
from convert.updates.difference import Algebra, Load, MisfitError, Shape, Tensors, by, require

if TYPE_CHECKING:
    import torch

WEIGHT_ROLES: Final = ("diff", "w_norm")
BIAS_ROLES: Final = ("diff_b", "b_norm")


@dataclass(frozen=True)
class Full(Algebra):
    """The difference itself, in the shape of the base's tensor.

    `diff` is a linear layer's or a convolution's, `w_norm` a norm's; no alpha applies to them.

    Source: lycoris/modules/full.py and norms.py.
    """

    roles: ClassVar = frozenset(WEIGHT_ROLES)

    values: StoredTensor
    scale: float = 1.0

    @classmethod
    def fit(cls, tensors: Tensors, alpha: float | None, shape: Shape) -> Self:  # noqa: D102
        role = next((role for role in WEIGHT_ROLES if role in tensors), WEIGHT_ROLES[0])
        return cls.fit_role(tensors, role, shape)

    @classmethod
    def fit_role(cls, tensors: Tensors, role: str, shape: Shape, scale: float = 1.0) -> Self:
        """The difference that one tensor is of a base's tensor of this shape.

        Raises:
            IncompleteError: there is no such tensor.
            MisfitError: it is no float, or of another shape.
        """
        (values,) = require(tensors, role)
        if values.shape != shape:
            raise MisfitError(f"{role} of {by(values.shape)} for {by(shape)}")
        return cls(values, scale)

    @classmethod
    def kind_of(cls, tensors: Tensors) -> str:  # noqa: D102
        return "norm" if "w_norm" in tensors else "full difference"

    def delta(self, base: "torch.Tensor", load: Load, weight: float) -> "torch.Tensor":  # noqa: D102
        return load(self.values).mul_(self.scale * weight)
