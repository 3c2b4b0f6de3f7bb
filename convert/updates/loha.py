"""LoHa: the elementwise product of two low-rank products."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Self

from convert.tensors import StoredTensor
from convert.updates.difference import (
    Algebra,
    Load,
    MisfitError,
    Shape,
    Tensors,
    by,
    first_axis,
    flat,
    is_layer,
    require,
    scale,
    tucker,
)

if TYPE_CHECKING:
    import torch

_HALVES: Final = (("hada_w1_a", "hada_w1_b", "hada_t1"), ("hada_w2_a", "hada_w2_b", "hada_t2"))


@dataclass(frozen=True)
class LoHa(Algebra):
    """alpha / rank · (w1_a · w1_b) ⊙ (w2_a · w2_b).

    Plain: w_a is [outputs, rank] and w_b [rank, inputs · h · w]. In Tucker form, with a core t of
    [rank, rank, h, w], w_a is [rank, outputs] and w_b [rank, inputs], and each half is
    Σ t[i, j, y, x] · w_a[i, o] · w_b[j, n].

    Source: Hyeon-Woo et al., FedPara, arXiv 2108.06098, eq. 4 and its convolution form; Yeh et al.,
    LyCORIS, arXiv 2309.14859, section 3. The scale enters once, as in LyCORIS' forward pass, the
    webui and ComfyUI; LyCORIS' own `get_diff_weight` multiplies by it twice.
    """

    roles: ClassVar = frozenset(role for half in _HALVES for role in half)

    halves: tuple[tuple[StoredTensor, StoredTensor, StoredTensor | None], ...]
    scale: float

    @classmethod
    def fit(cls, tensors: Tensors, alpha: float | None, shape: Shape) -> Self:  # noqa: D102
        is_tucker = any(core in tensors for _, _, core in _HALVES)
        halves = []
        for role_a, role_b, core in _HALVES:
            a, b = require(tensors, role_a, role_b)
            halves.append((a, b, require(tensors, core)[0] if is_tucker else None))
        rank = halves[0][1].shape[0] if halves[0][1].shape else 0
        for half in halves:
            found = [tensor.shape for tensor in half if tensor]
            if not rank or not is_layer(shape) or found != _shapes(rank, shape, is_tucker):
                raise MisfitError(f"{' · '.join(map(by, found))} for {by(shape)}")
        return cls(tuple(halves), scale(alpha, rank))

    @classmethod
    def kind_of(cls, tensors: Tensors) -> str:  # noqa: D102
        return "LoHa with Tucker cores" if "hada_t1" in tensors else "LoHa"

    @classmethod
    def rank_of(cls, tensors: Tensors) -> int | None:  # noqa: D102
        return first_axis(tensors, "hada_w1_b")

    def delta(self, base: "torch.Tensor", load: Load, weight: float) -> "torch.Tensor":  # noqa: D102
        first, second = (
            (load(a) @ load(b)).reshape(base.shape)
            if t is None
            else tucker(load(t), load(a), load(b))
            for a, b, t in self.halves
        )
        return first.mul_(second).mul_(self.scale * weight)


def _shapes(rank: int, weight: Shape, is_tucker: bool) -> list[Shape]:
    """What the tensors of one half have to be for a weight of this shape."""
    if is_tucker:
        return [(rank, weight[0]), (rank, weight[1]), (rank, rank, *weight[2:])]
    return [(weight[0], rank), (rank, flat(weight)[1])]
