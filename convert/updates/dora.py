"""DoRA: the changed weight's direction, with lengths of its own."""

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar, Final

from convert.tensors import StoredTensor
from convert.updates.difference import Difference, Load, MisfitError, Shape, Tensors, by, require

if TYPE_CHECKING:
    import torch

LYCORIS: Final = "dora_scale"
PEFT: Final = "lora_magnitude_vector"
ROLES: Final = frozenset({LYCORIS, PEFT})

_EPSILON: Final = 2.0**-23
"""What LyCORIS adds to a norm: float32's machine epsilon, so that a row of zeros stays zero."""


@dataclass(frozen=True)
class Dora(Difference):
    """weight · (m · (W + ΔW) / ‖W + ΔW‖ − W), where ΔW is another algebra's difference.

    The norm goes over all axes but one: m has a length for each output (`axis` 0), or for each
    input in LyCORIS' older files (`axis` 1). W is the base's own weight, so that the differences of
    several LoRAs can be added in any order, and the LoRA's weight moves along the straight line
    from W to the trained weight, as in the webui and ComfyUI. At weight 1 that is what every
    program makes of it; at others PEFT and LyCORIS scale inside the formula, which gives no W at
    weight 0.

    Source: Liu et al., DoRA, arXiv 2402.09353, eq. 5; lycoris/functional/general.py.
    """

    needs_base: ClassVar = True

    inner: Difference
    magnitude: StoredTensor
    axis: int

    @classmethod
    def fit(cls, inner: Difference, tensors: Tensors, shape: Shape) -> "Dora":
        """The decomposition around another algebra's difference.

        Raises:
            MisfitError: the magnitudes do not fit the base's weight, or there are two sets of them.
        """
        roles = sorted(ROLES & tensors.keys())
        if len(roles) > 1:
            raise MisfitError(f"{roles[0]} and {roles[1]} exclude each other")
        (magnitude,) = require(tensors, roles[0])
        sizes = magnitude.shape
        ones = (1,) * (len(shape) - 1)
        if roles[0] == PEFT:
            # PEFT's are one number for each output, whatever the axes around them.
            fits, axis = bool(sizes) and prod(sizes) == shape[0] and max(sizes) == shape[0], 0
        else:
            axis = 0 if sizes in ((shape[0], *ones), (shape[0],)) else 1
            fits = axis == 0 or sizes == (1, shape[1], *ones[1:])
        if not fits:
            raise MisfitError(f"{roles[0]} of {by(sizes)} for {by(shape)}")
        return cls(inner, magnitude, axis)

    def delta(self, base: "torch.Tensor", load: Load, weight: float) -> "torch.Tensor":  # noqa: D102
        changed = self.inner.delta(base, load, 1.0).add_(base)
        others = tuple(axis for axis in range(base.dim()) if axis != self.axis)
        lengths = changed.square().sum(dim=others, keepdim=True).sqrt_().add_(_EPSILON)
        factors = load(self.magnitude).reshape(lengths.shape) / lengths
        return changed.mul_(factors).sub_(base).mul_(weight)
