"""What every algebra has in common: from the tensors of one LoRA module to a difference of weights.

An algebra is fitted by the headers alone, before any value is read: whatever the file claims, no
product can then become larger than the base's own tensor, nor any factor larger than the file.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from math import prod
from typing import TYPE_CHECKING, ClassVar, Final, Self

from convert.tensors import FLOATS, StoredTensor

if TYPE_CHECKING:
    import torch

ALPHA: Final = "alpha"

Shape = tuple[int, ...]
Tensors = Mapping[str, StoredTensor]
"""A module's tensors by their roles, which are the ends of kohya's and LyCORIS' keys."""

Load = Callable[[StoredTensor], "torch.Tensor"]
"""Reads a stored tensor as float32."""


class IncompleteError(Exception):
    """A module lacks a tensor; the message names it."""


class MisfitError(Exception):
    """A module's tensors do not fit one another or the base's weight; the message says why."""


class Difference(ABC):
    """What a LoRA adds to one tensor of the base."""

    needs_base: ClassVar[bool] = False
    """Whether the difference depends on the base's values."""

    @abstractmethod
    def delta(self, base: "torch.Tensor", load: Load, weight: float) -> "torch.Tensor":
        """The difference times `weight`, in float32 and in the shape of `base`.

        Args:
            base: the base's tensor in float32, which is not changed.
            load: reads the LoRA's tensors.
            weight: how strongly the LoRA enters.
        """

    def add_to(
        self, total: "torch.Tensor", base: "torch.Tensor", load: Load, weight: float
    ) -> None:
        """Add the difference times `weight` to `total`, in place.

        The other arguments are those of `delta`.
        """
        total += self.delta(base, load, weight)


class Algebra(Difference):
    """A way to make the difference of a layer's weight from the tensors of one module."""

    roles: ClassVar[frozenset[str]]
    """The tensors that it takes, alpha apart."""

    @classmethod
    @abstractmethod
    def fit(cls, tensors: Tensors, alpha: float | None, shape: Shape) -> Self:
        """The difference that a module makes of a weight of this shape.

        Args:
            tensors: the module's tensors; those that are not of `roles` are left alone.
            alpha: the numerator of the scale alpha / rank; None where it is the rank.
            shape: of the base's weight.

        Raises:
            IncompleteError: a tensor is missing.
            MisfitError: a shape or a dtype does not fit.
        """

    @classmethod
    @abstractmethod
    def kind_of(cls, tensors: Tensors) -> str:
        """What people call a module with these tensors."""

    @classmethod
    def rank_of(cls, tensors: Tensors) -> int | None:
        """The rank, as the headers say; None where the algebra or the module has none."""
        return None


def require(tensors: Tensors, *roles: str) -> list[StoredTensor]:
    """The tensors of these roles, all of them floats.

    Raises:
        IncompleteError: one is missing.
        MisfitError: one is no float.
    """
    missing = [role for role in roles if role not in tensors]
    if missing:
        raise IncompleteError(f"no {' and no '.join(missing)}")
    found = [tensors[role] for role in roles]
    for role, tensor in zip(roles, found, strict=True):
        if tensor.dtype not in FLOATS:
            raise MisfitError(f"{role} is of dtype {tensor.dtype}, not a float")
    return found


def first_axis(tensors: Tensors, *roles: str) -> int | None:
    """The length of the first axis of the first of these tensors that the module has."""
    tensor = next((tensors[role] for role in roles if role in tensors), None)
    return tensor.shape[0] if tensor and tensor.shape else None


def scale(alpha: float | None, rank: int) -> float:
    """Alpha / rank, which is 1 where the file has no alpha."""
    return 1.0 if alpha is None else alpha / rank


def flat(shape: Shape) -> Shape:
    """[outputs, inputs · kernel height · kernel width] of a linear or convolution weight."""
    return (shape[0], prod(shape[1:]))


def is_layer(shape: Shape) -> bool:
    """Whether a weight of this shape is a linear layer's or a convolution's."""
    return len(shape) in (2, 4)


def by(shape: Shape) -> str:
    """A shape in words: 4x3x3."""
    return "x".join(map(str, shape)) or "scalar"


def tucker(core: "torch.Tensor", a: "torch.Tensor", b: "torch.Tensor") -> "torch.Tensor":
    """Σ core[i, j, y, x] · a[i, o] · b[j, n] as [o, n, y, x]."""
    rank, kernel = core.shape[1], core.shape[2:]
    left = a.T @ core.reshape(len(core), -1)
    inner = left.reshape(len(left), rank, -1).transpose(1, 2) @ b
    return inner.transpose(1, 2).reshape(len(left), b.shape[1], *kernel)
