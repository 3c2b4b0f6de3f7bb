"""The picture that a run works on, and how what it paints goes back into the one that was given."""

from dataclasses import dataclass

import numpy as np

from engines import layout
from engines.errors import SettingError
from engines.manifest import ComponentSpec
from engines.manifest import Latents as LatentsSpec
from runtime.arrays import Float32Array, Pixels
from runtime.fill import fill_masked
from runtime.init_settings import CONTENT_FILL, InitSettings, MaskSettings, working_mask
from runtime.masks import Box, latent_mask, paste, region_around
from runtime.resize import CROP, EXTEND, FILL, resize


@dataclass(frozen=True)
class Canvas:
    """What is worked on.

    Attributes:
        pixels: [H, W, 3], at the size that the run has.
        mask: [H, W], at the same size; None where all is painted.
        ground: [H, W, 3], what the result is laid over, at the result's size.
        ground_mask: [H, W], where it is laid; None where all is.
        region: the part of the ground that is worked on; None for the whole.
    """

    pixels: Pixels
    mask: Pixels | None
    ground: Pixels
    ground_mask: Pixels | None
    region: Box | None

    def finish(self, painted: Pixels) -> Pixels:
        """The result: what was painted [H, W, 3], in its place in the picture that was given."""
        if self.region is None:
            painted = painted[: self.ground.shape[0], : self.ground.shape[1]]
        if self.ground_mask is None:
            return painted
        if self.region is not None:
            left, top, right, bottom = self.region
            whole = self.ground.copy()
            part = resize(painted, right - left, bottom - top, CROP)
            whole[top:bottom, left:right] = part
            painted = whole
        return paste(self.ground, painted, self.ground_mask)


def prepare_canvas(init: InitSettings, width: int, height: int) -> Canvas:
    """Crop and resize a picture and its mask to the size of a run.

    Raises:
        SettingError: their pixels are not there.
    """
    ground = init.pixels
    if init.mask is None:
        pixels = resize(ground, width, height, init.resize)
        if init.resize != EXTEND:
            ground = pixels
        return Canvas(pixels, None, ground, ground_mask=None, region=None)
    ground_mask = working_mask(init.mask)
    mask, region = _mask_of_run(init.mask, init.resize, width, height)
    if region is not None:
        left, top, right, bottom = region
        pixels = resize(ground[top:bottom, left:right], width, height, FILL)
    else:
        pixels = resize(ground, width, height, init.resize)
        if init.resize != EXTEND:
            ground, ground_mask = pixels, mask
    if init.mask.content == CONTENT_FILL:
        pixels = fill_masked(pixels, mask)
    return Canvas(np.ascontiguousarray(pixels), mask, ground, ground_mask, region)


def unet_sees_mask(unet: ComponentSpec, latents: LatentsSpec) -> bool:
    """Whether a UNet is one for inpainting: it takes more channels than the latents have."""
    (shape,) = (tensor.shape for tensor in unet.inputs if tensor.name == layout.SAMPLE)
    return int(shape[1]) > latents.channels


def mask_of_latents(
    pixels: Pixels, mask: MaskSettings, downscale: int, *, sees_mask: bool
) -> Float32Array:
    """The mask that a run's latents have, [h, w]; a UNet that sees it knows no grey.

    Args:
        pixels: [H, W], the mask at the size of the run.
        mask: the settings.
        downscale: pixels per latent along one side.
        sees_mask: of the UNet.
    """
    return latent_mask(pixels, downscale, soft=mask.soft and not sees_mask)


def check_mask(
    init: InitSettings, width: int, height: int, downscale: int, *, sees_mask: bool
) -> None:
    """Refuse a mask that would leave every latent of the run as it is, for all its work.

    Args:
        init: the settings; nothing is checked where they have no mask.
        width: of what is worked on, in pixels.
        height: likewise.
        downscale: pixels per latent along one side.
        sees_mask: of the UNet.

    Raises:
        SettingError: the mask is so small, or so blurred or dark, or cut off.
    """
    if init.mask is None:
        return
    mask, _ = _mask_of_run(init.mask, init.resize, width, height)
    if not mask_of_latents(mask, init.mask, downscale, sees_mask=sees_mask).any():
        raise SettingError(
            f"The mask paints nothing: it covers none of the latents, which are {downscale}x"
            f"{downscale} pixels of {width}x{height}. Make it larger, lighter or less blurred, or "
            "work on the masked part alone, with little padding."
        )


def _mask_of_run(
    mask: MaskSettings, mode: str, width: int, height: int
) -> tuple[Pixels, Box | None]:
    """The mask at the size of a run, and the part of the picture that it is of, if not all."""
    whole = working_mask(mask)
    if not mask.only_masked:
        return resize(whole, width, height, mode), None
    region = region_around(whole, width, height, mask.padding)
    left, top, right, bottom = region
    return resize(whole[top:bottom, left:right], width, height, FILL), region
