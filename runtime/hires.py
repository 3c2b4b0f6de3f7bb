"""Hires fix: a second pass over an enlarged picture, as AUTOMATIC1111's webui does it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from runtime.arrays import Latents, Pixels
from runtime.calls import Calls
from runtime.latent_resize import resize_latents
from runtime.resize import FILTERS, Size, resize
from runtime.seeds import MAX_SIDE

LATENT_UPSCALERS = {
    "latent": "bilinear",
    "latent (nearest)": "nearest",
    "latent (bicubic)": "bicubic",
}
"""The webui's names, and the method of `runtime.latent_resize` that each one is."""

UPSCALERS = (*LATENT_UPSCALERS, *FILTERS)

WEBUI_UPSCALERS = {"None": "lanczos"}
"""What the webui calls otherwise: without an upscaler it resizes pictures so."""

_LARGEST_SCALE = 8.0

_MOST_SURPLUS = 4
"""How many times the pixels of the result an enlarged picture may have before it is cropped."""


@dataclass(frozen=True)
class HiresSettings:
    """How a picture is enlarged and worked over.

    Attributes:
        scale: how much larger each side becomes; without effect where a size is given.
        width: in pixels; 0 for what the height makes of it, or where that is 0 too, the scale.
        height: likewise; where both are given, the picture is enlarged until it covers them, and
            what is too much is cut off.
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

    A side stays 0 where it would follow from one that is not possible, or from a scale of 0.

    Args:
        hires: what was asked for.
        width: of the first pass, in pixels; not checked yet.
        height: likewise.
        steps: likewise.
        downscale: pixels per latent along one side.
    """
    scale = hires.scale if not hires.scale or 1 <= hires.scale <= _LARGEST_SCALE else 1.0
    wide, tall = hires.width, hires.height
    if not (_is_side(width) and _is_side(height)):
        pass
    elif not (wide or tall):
        wide, tall = (_floor(int(side * scale), downscale) for side in (width, height))
    elif not tall and _is_side(wide):
        tall = _floor(wide * height // width, downscale)
    elif not wide and _is_side(tall):
        wide = _floor(tall * width // height, downscale)
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
    elif (hires.width, hires.height) == (width, height) != (0, 0):
        faults.append(
            f"the hires size {width}x{height} is that of the first pass: choose another, "
            "or no second pass"
        )
    elif hires.upscaler in FILTERS and _surplus_is_large(hires, width, height):
        wide, tall = _covering_size(hires, width, height)
        faults.append(
            f"a picture of {width}x{height} would have to be enlarged to {wide}x{tall} before "
            f"{hires.width}x{hires.height} are cut out: choose a size of nearer proportions, or a "
            "latent upscaler"
        )
    if hires.upscaler not in UPSCALERS:
        faults.append(f"no upscaler {hires.upscaler!r}: choose one of {', '.join(UPSCALERS)}")
    if not 0 < hires.strength <= 1:
        faults.append(
            f"the hires strength {hires.strength:g} is not possible: choose above 0, at most 1"
        )
    elif not 1 <= hires.steps <= most_steps:
        faults.append(f"{hires.steps} hires steps are not possible: choose 1 to {most_steps}")
    elif hires.steps / hires.strength >= most_steps + 1:
        faults.append(
            f"{hires.steps} hires steps at strength {hires.strength:g} are not possible: they are "
            f"the last of {hires.steps / hires.strength:.6g}, choose so that these are 1 to "
            f"{most_steps}"
        )
    return faults


def schedule_steps(hires: HiresSettings) -> int:
    """The steps of the whole schedule of which the second pass takes the last `hires.steps`."""
    return int(hires.steps / hires.strength)


def enlarged_size(hires: HiresSettings, width: int, height: int, downscale: int) -> Size:
    """The width and height in pixels that the first pass is enlarged to, in its proportions.

    They need not be multiples of `downscale`. What they have more than the settings is cut off.

    Source: `calculate_target_resolution` of the webui's StableDiffusionProcessingTxt2Img.

    Args:
        hires: settled.
        width: of the first pass, in pixels.
        height: likewise.
        downscale: pixels per latent along one side.
    """
    scaled = int(width * hires.scale), int(height * hires.scale)
    if [_floor(side, downscale) for side in scaled] == [hires.width, hires.height]:
        return scaled
    return _covering_size(hires, width, height)


def upscale(
    latents: Latents,
    hires: HiresSettings,
    downscale: int,
    decode: Callable[[Latents], Calls[Pixels]],
    encode: Callable[[Pixels], Calls[Latents]],
) -> Calls[Latents]:
    """Enlarge the first pass's latents [C, h, w] for the second, and cut out their middle.

    Source: `sample_hr_pass` of the webui. As there, pictures are encoded before they are cut, up to
    a remainder at the right and below that makes no latent.

    Args:
        latents: of the first pass.
        hires: settled.
        downscale: pixels per latent along one side.
        decode: latents to a picture [H, W, 3]; called by upscalers of pictures.
        encode: the way back.

    Returns:
        [C, h', w'] of the size of the settings.
    """
    rows, columns = latents.shape[1:]
    wide, tall = enlarged_size(hires, columns * downscale, rows * downscale, downscale)
    method = LATENT_UPSCALERS.get(hires.upscaler)
    if method is not None:
        larger = resize_latents(latents, tall // downscale, wide // downscale, method)
    else:
        pixels = yield from decode(latents)
        pixels = resize(pixels, wide, tall, method=hires.upscaler)
        larger = yield from encode(pixels[: _floor(tall, downscale), : _floor(wide, downscale)])
    return _middle(larger, hires.height // downscale, hires.width // downscale)


def _is_side(pixels: int) -> bool:
    return 0 < pixels <= MAX_SIDE


def _floor(pixels: int, downscale: int) -> int:
    return pixels // downscale * downscale


def _covering_size(hires: HiresSettings, width: int, height: int) -> Size:
    """The least width and height of the first pass's proportions that cover those asked for."""
    if width * hires.height < hires.width * height:
        return hires.width, hires.width * height // width
    return hires.height * width // height, hires.height


def _surplus_is_large(hires: HiresSettings, width: int, height: int) -> bool:
    """Whether most of the enlarged picture would be cut off; False where a side is not possible."""
    if not all(map(_is_side, (width, height, hires.width, hires.height))):
        return False
    wide, tall = _covering_size(hires, width, height)
    return wide * tall > _MOST_SURPLUS * hires.width * hires.height


def _middle(latents: Latents, height: int, width: int) -> Latents:
    """Cut [C, height, width] out of [C, h, w]; of an odd surplus the end loses one more."""
    top, left = (latents.shape[1] - height) // 2, (latents.shape[2] - width) // 2
    return latents[:, top : top + height, left : left + width]
