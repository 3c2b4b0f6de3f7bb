"""LoRA and LoCon: a product of two factors, or of three."""

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
    is_layer,
    require,
    scale,
    tucker,
)

if TYPE_CHECKING:
    import torch

DOWN: Final = "lora_down.weight"
MID: Final = "lora_mid.weight"
UP: Final = "lora_up.weight"


@dataclass(frozen=True)
class LowRank(Algebra):
    """alpha / rank · up · down, and in between the Tucker core `mid` where there is one.

    Without `mid`, `down` is [rank, inputs] or [rank, inputs, h, w] with the layer's own kernel.
    With it, `down` is [rank, inputs, 1, 1] and `mid` [rank, rank, h, w]:
    ΔW[o, i, y, x] = Σ up[o, m] · mid[m, n, y, x] · down[n, i]. `up` is [outputs, rank], with or
    without two axes of length 1.

    Source: Hu et al., LoRA, arXiv 2106.09685, eq. 3; Yeh et al., LyCORIS, arXiv 2309.14859,
    section 3 and appendix B (LoCon and its Tucker form).
    """

    roles: ClassVar = frozenset({DOWN, MID, UP})

    down: StoredTensor
    mid: StoredTensor | None
    up: StoredTensor
    scale: float

    @classmethod
    def fit(cls, tensors: Tensors, alpha: float | None, shape: Shape) -> Self:  # noqa: D102
        down, up = require(tensors, DOWN, UP)
        mid = require(tensors, MID)[0] if MID in tensors else None
        if not _fits(down.shape, mid.shape if mid else None, up.shape, shape):
            factors = [up, mid, down] if mid else [up, down]
            product = " · ".join(by(factor.shape) for factor in factors)
            raise MisfitError(f"{product} for {by(shape)}")
        return cls(down, mid, up, scale(alpha, down.shape[0]))

    @classmethod
    def kind_of(cls, tensors: Tensors) -> str:  # noqa: D102
        if MID in tensors:
            return "LoCon with a Tucker core"
        down = tensors.get(DOWN)
        return "LoCon" if down and any(size > 1 for size in down.shape[2:]) else "LoRA"

    @classmethod
    def rank_of(cls, tensors: Tensors) -> int | None:  # noqa: D102
        return first_axis(tensors, DOWN)

    def delta(self, base: "torch.Tensor", load: Load, weight: float) -> "torch.Tensor":  # noqa: D102
        up, down = self._factors(load)
        product = up @ down if self.mid is None else tucker(load(self.mid), up.T, down)
        return product.mul_(self.scale * weight).reshape(base.shape)

    def add_to(  # noqa: D102
        self, total: "torch.Tensor", base: "torch.Tensor", load: Load, weight: float
    ) -> None:
        if self.mid is not None or not total.is_contiguous():
            super().add_to(total, base, load, weight)
            return
        up, down = self._factors(load)
        # The product goes straight into the sum: it is as large as the layer, and most LoRAs are.
        total.view(len(up), -1).addmm_(up, down, alpha=self.scale * weight)

    def _factors(self, load: Load) -> "tuple[torch.Tensor, torch.Tensor]":
        """`up` as [outputs, rank] and `down` as [rank, inputs · kernel]."""
        rank = self.down.shape[0]
        return load(self.up).reshape(-1, rank), load(self.down).reshape(rank, -1)


def _fits(down: Shape, mid: Shape | None, up: Shape, weight: Shape) -> bool:
    """Whether the factors' product has the shape of `weight`."""
    if not is_layer(weight) or not is_layer(down) or not is_layer(up) or set(up[2:]) - {1}:
        return False
    rank, kernel = down[0], weight[2:] or (1, 1)
    if mid is None:
        inner = (down[2:] or (1, 1)) == kernel
    else:
        inner = not set(down[2:]) - {1} and mid[:2] == (rank, rank) and mid[2:] == kernel
    return inner and rank > 0 and up[:2] == (weight[0], rank) and down[1] == weight[1]
