"""Weights for each block of the UNet, in the form that the webui's LoRA Block Weight has.

Seventeen numbers, which multiply the LoRA's weight: the text encoder (BASE), then the blocks with
attention. The other blocks, whose layers a plain LoRA does not change, get 0 as in the webui, and
the layers outside of any block (the embedding of the timestep, the last convolution) keep 1.

Source: hako-mikan/sd-webui-lora-block-weight, scripts/lora_block_weight.py (BLOCKID17, to26 and
ratiodealer).
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

from convert.model import TEXT_ENCODER

BLOCKS: Final = (
    "BASE",
    *(f"IN{number:02}" for number in (1, 2, 4, 5, 7, 8)),
    "MID",
    *(f"OUT{number:02}" for number in range(3, 12)),
)
"""What the seventeen numbers are for, in their order."""

_BLOCK: Final = re.compile(r"(input|middle|output)_blocks?\.(\d+)\.")
_SIDES: Final = {"input": "IN", "output": "OUT"}


def check_block_weights(weights: Sequence[float]) -> str:
    """What is wrong with a list of block weights; empty where nothing is. An empty list is none."""
    if weights and len(weights) != len(BLOCKS):
        return f"{len(weights)} numbers instead of {len(BLOCKS)} ({','.join(BLOCKS)})"
    if not all(math.isfinite(weight) for weight in weights):
        return "not all of them finite numbers"
    return ""


def block_weight(weights: Sequence[float], component: str, original: str | None) -> float:
    """What multiplies a LoRA's weight for one layer.

    Args:
        weights: seventeen numbers, or none where every block counts fully.
        component: the layer's network.
        original: the layer's name in the original layout, for the UNet's; None where it has none.
    """
    if not weights:
        return 1.0
    by_block: Mapping[str, float] = dict(zip(BLOCKS, weights, strict=True))
    if component == TEXT_ENCODER:
        return by_block["BASE"]
    match = _BLOCK.match(original or "")
    if match is None:
        return 1.0
    side, number = match.groups()
    block = f"{_SIDES[side]}{int(number):02}" if side in _SIDES else "MID"
    return by_block.get(block, 0.0)
