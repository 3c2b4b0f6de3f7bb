"""LoKr: a Kronecker product, whose factors may be low-rank products themselves."""

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar, Self

from convert.tensors import StoredTensor
from convert.updates.difference import (
    Algebra,
    IncompleteError,
    Load,
    MisfitError,
    Shape,
    Tensors,
    by,
    first_axis,
    is_layer,
    require,
    scale,
    tucker,
)

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LoKr(Algebra):
    """alpha / rank · w1 ⊗ w2.

    w1 is [a, c] or w1_a · w1_b; w2 is [outputs / a, inputs / c, h, w], or w2_a · w2_b, or the
    Tucker product of lokr_t2 with both. The rank is that of the products; where both w1 and w2 are
    whole there is none, and alpha has no effect.

    Source: Yeh et al., LyCORIS, arXiv 2309.14859, section 3 (KronA, arXiv 2212.10650, with
    low-rank factors); lycoris/modules/lokr.py.
    """

    roles: ClassVar = frozenset(
        {"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"}
    )

    first: tuple[StoredTensor, ...]
    second: tuple[StoredTensor, ...]
    core: StoredTensor | None
    scale: float

    @classmethod
    def fit(cls, tensors: Tensors, alpha: float | None, shape: Shape) -> Self:  # noqa: D102
        first, second = _factor(tensors, "lokr_w1"), _factor(tensors, "lokr_w2")
        core = require(tensors, "lokr_t2")[0] if "lokr_t2" in tensors else None
        ranks = [pair[1].shape[0] for pair in (first, second) if len(pair) == 2 and pair[1].shape]
        found = [tensor.shape for tensor in (*first, *second, *([core] if core else []))]
        if not is_layer(shape) or not _fits(first, second, core, shape) or len(set(ranks)) > 1:
            raise MisfitError(f"{' · '.join(map(by, found))} for {by(shape)}")
        return cls(first, second, core, scale(alpha, ranks[0]) if ranks else 1.0)

    @classmethod
    def kind_of(cls, tensors: Tensors) -> str:  # noqa: D102
        return "LoKr with a Tucker core" if "lokr_t2" in tensors else "LoKr"

    @classmethod
    def rank_of(cls, tensors: Tensors) -> int | None:  # noqa: D102
        return first_axis(tensors, "lokr_w2_b", "lokr_w1_b")

    def delta(self, base: "torch.Tensor", load: Load, weight: float) -> "torch.Tensor":  # noqa: D102
        w1 = _product(self.first, load).mul_(self.scale * weight)
        if self.core is not None:
            w2 = tucker(load(self.core), load(self.second[0]), load(self.second[1]))
        else:
            w2 = _product(self.second, load)
        a, c = w1.shape
        b, d = base.shape[0] // a, base.shape[1] // c
        # The Kronecker product, each factor's axes between the other's.
        product = w1.reshape(a, 1, c, 1, 1) * w2.reshape(1, b, 1, d, -1)
        return product.reshape(base.shape)


def _factor(tensors: Tensors, role: str) -> tuple[StoredTensor, ...]:
    """A factor's tensor, or the two that it is the product of."""
    parts = (f"{role}_a", f"{role}_b")
    if role in tensors:
        surplus = [part for part in parts if part in tensors]
        if surplus:
            raise MisfitError(f"{role} and {surplus[0]} exclude each other")
        return tuple(require(tensors, role))
    if not any(part in tensors for part in parts):
        raise IncompleteError(f"no {role}")
    return tuple(require(tensors, *parts))


def _product(factor: tuple[StoredTensor, ...], load: Load) -> "torch.Tensor":
    if len(factor) == 1:
        return load(factor[0])
    a, b = (load(part) for part in factor)
    return a @ b.reshape(len(b), -1)


def _fits(
    first: tuple[StoredTensor, ...],
    second: tuple[StoredTensor, ...],
    core: StoredTensor | None,
    shape: Shape,
) -> bool:
    """Whether the factors are matrices whose Kronecker product has the shape of the weight."""
    left, right = _shape(first, None), _shape(second, core)
    if left is None or right is None or len(left) != 2 or not all(left):
        return False
    (rows, row_rest), (columns, column_rest) = divmod(shape[0], left[0]), divmod(shape[1], left[1])
    if row_rest or column_rest:
        return False
    kernel = shape[2:]
    forms = [(rows, columns, *kernel)]
    if core is None and (len(second) == 2 or prod(kernel) == 1):
        forms.append((rows, columns * prod(kernel)))
    return right in forms


def _shape(factor: tuple[StoredTensor, ...], core: StoredTensor | None) -> Shape | None:
    """The shape of a factor; None where its parts do not fit each other."""
    if len(factor) == 1:
        return factor[0].shape if core is None else None
    a, b = (part.shape for part in factor)
    if core is not None:
        fits = len(a) == len(b) == 2 and a[0] == b[0] > 0 and core.shape[:2] == (a[0], b[0])
        return (a[1], b[1], *core.shape[2:]) if fits else None
    fits = len(a) == 2 and is_layer(b) and a[1] == b[0] > 0
    return (a[0], *b[1:]) if fits else None
