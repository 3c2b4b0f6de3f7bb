"""Hires fix: a second pass over an enlarged picture, as AUTOMATIC1111's webui does it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from runtime.arrays import Latents, Pixels
from runtime.calls import Calls
from runtime.latent_resize import resize_latents
from runtime.resize import FILTERS, resize

LATENT_UPSCALERS = {
    "latent": "bilinear",
    "latent (nearest)": "nearest",
    "latent (bicubic)": "bicubic",
}
"""The webui's names, and the method of `runtime.latent_resize` that each one is."""

UPSCALERS = (*LATENT_UPSCALERS, *FILTERS)

_LARGEST_SCALE = 8.0


@dataclass(frozen=True)
class HiresSettings:
    """How a picture is enlarged and worked over.

    Attributes:
        scale: how much larger each side becomes; without effect where a size is given.
        width: in pixels; 0 for what the height makes of it, or where that is 0 too, the scale.
        height: likewise.
        upscaler: one of `UPSCALERS`; those of latents need more strength than those of pictures.
        steps: of the second pass; 0 for as many as the first one has.
        strength: how much the second pass changes, from near 0 to 1.
    """

    scale: float = 2.0
    width: int = 0
    height: int = 0
    upscaler: str = "latent"
    steps: int = 0
    strength: float = 0.7


def settle_hires(
    hires: HiresSettings, width: int, height: int, steps: int, downscale: int
) -> HiresSettings:
    """Put numbers where settings leave them to the first pass.

    Args:
        hires: what was asked for.
        width: of the first pass, in pixels.
        height: likewise.
        steps: likewise.
        downscale: pixels per latent along one side.
    """
    scale = hires.scale if 1 <= hires.scale <= _LARGEST_SCALE else 1.0
    wide, tall = hires.width, hires.height
    if not (wide or tall):
        wide, tall = (int(side * scale) // downscale * downscale for side in (width, height))
    elif not tall:
        tall = wide * height // width // downscale * downscale
    elif not wide:
        wide = tall * width // height // downscale * downscale
    return dataclasses.replace(
        hires,
        scale=0.0 if hires.width or hires.height else hires.scale,
        width=wide,
        height=tall,
        upscaler=hires.upscaler.casefold(),
        steps=hires.steps or steps,
    )


def hires_faults(hires: HiresSettings, width: int, height: int, most_steps: int) -> list[str]:
    """What is wrong with settled settings.

    Args:
        hires: from `settle_hires`.
        width: of the first pass, in pixels.
        height: likewise.
        most_steps: that a schedule may have.
    """
    faults = []
    if hires.scale and not 1 <= hires.scale <= _LARGEST_SCALE:
        faults.append(
            f"the hires scale {hires.scale:g} is not possible: choose 1 to {_LARGEST_SCALE:g}"
        )
    elif (hires.width, hires.height) == (width, height):
        faults.append(
            f"the hires size {width}x{height} is that of the first pass: choose another, "
            "or no second pass"
        )
    if hires.upscaler not in UPSCALERS:
        faults.append(f"no upscaler {hires.upscaler!r}: choose one of {', '.join(UPSCALERS)}")
    if not 0 < hires.strength <= 1:
        faults.append(
            f"the hires strength {hires.strength:g} is not possible: choose above 0, at most 1"
        )
    elif not 1 <= hires.steps <= hires.steps / hires.strength < most_steps + 1:
        faults.append(
            f"{hires.steps} hires steps at strength {hires.strength:g} are not possible: they are "
            f"the last of {hires.steps / hires.strength:.6g}, choose so that these are 1 to "
            f"{most_steps}"
        )
    return faults


def schedule_steps(hires: HiresSettings) -> int:
    """The steps of the whole schedule of which the second pass takes the last `hires.steps`."""
    return int(hires.steps / hires.strength)


def upscale(
    latents: Latents,
    hires: HiresSettings,
    downscale: int,
    decode: Callable[[Latents], Calls[Pixels]],
    encode: Callable[[Pixels], Calls[Latents]],
) -> Calls[Latents]:
    """Enlarge the first pass's latents [C, h, w] for the second.

    Args:
        latents: of the first pass.
        hires: settled.
        downscale: pixels per latent along one side.
        decode: latents to a picture [H, W, 3]; called by upscalers of pictures.
        encode: the way back.
    """
    method = LATENT_UPSCALERS.get(hires.upscaler)
    if method is not None:
        return resize_latents(latents, hires.height // downscale, hires.width // downscale, method)
    pixels = yield from decode(latents)
    larger = resize(pixels, hires.width, hires.height, method=hires.upscaler)
    return (yield from encode(larger))
