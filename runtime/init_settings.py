"""What a picture starts from where it does not start from nothing: img2img and inpainting."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from runtime.arrays import Pixels
from runtime.masks import blur, harden
from runtime.resize import CROP, EXTEND, MODES, STRETCH, Size, scaled_size
from runtime.seeds import MAX_SIDE
from runtime.source_picture import SourcePicture

CONTENT_FILL = "fill"
CONTENT_ORIGINAL = "original"
CONTENT_NOISE = "latent noise"
CONTENT_NOTHING = "latent nothing"
CONTENTS = (CONTENT_FILL, CONTENT_ORIGINAL, CONTENT_NOISE, CONTENT_NOTHING)
"""The webui's names of what masked parts start from."""

MAX_BLUR = 64.0
MAX_PADDING = 2048

_MOST_CROPPED = 2**26
"""Pixels of a picture that is scaled to be cropped: 8192x8192."""

_REMEMBERED = 8

_PICTURE = "picture", "--init"
_MASK = "mask", "--mask"
"""What messages call them, and the options that give them."""


@dataclass(frozen=True)
class MaskSettings:
    """Which part is painted anew.

    Attributes:
        picture: the mask, as large as the picture; light where it is painted.
        blur: the standard deviation in pixels of the mask's blurred edge.
        invert: paint what is dark instead.
        content: what the part starts from, one of `CONTENTS`, in the spelling of `settle_init`.
        only_masked: work on the part alone, enlarged to the size of the request.
        padding: how many pixels around the part are worked on as well then.
        soft: grey means in part; else it is all or nothing.
    """

    picture: SourcePicture
    blur: float = 4.0
    invert: bool = False
    content: str = CONTENT_ORIGINAL
    only_masked: bool = False
    padding: int = 32
    soft: bool = False

    @property
    def pixels(self) -> Pixels:
        """The mask's own.

        Raises:
            SettingError: they are not there.
        """
        return self.picture.loaded(*_MASK)


@dataclass(frozen=True)
class InitSettings:
    """The picture to start from.

    Attributes:
        picture: what is changed.
        strength: how much, from near 0 to 1: the share of the steps that are taken.
        resize: one of `runtime.resize.MODES`, in the spelling of `settle_init`; after "extend" the
            result has the picture's own size.
        mask: which part; None for all of it.
    """

    picture: SourcePicture
    strength: float = 0.75
    resize: str = STRETCH
    mask: MaskSettings | None = None

    @property
    def keeps_size(self) -> bool:
        """Whether the result is as large as the picture, whatever the size of what is worked on."""
        return self.resize == EXTEND or (self.mask is not None and self.mask.only_masked)

    @property
    def pixels(self) -> Pixels:
        """The picture's own.

        Raises:
            SettingError: they are not there.
        """
        return self.picture.loaded(*_PICTURE)


def settle_init(init: InitSettings) -> InitSettings:
    """Names as the webui spells them; they may be given with hyphens, and in any case.

    The very `init` is returned where they are so already; names that are not known stay.
    """
    mask, resize = init.mask, _webui_name(init.resize, MODES)
    if mask is not None:
        content = _webui_name(mask.content, CONTENTS)
        mask = mask if content == mask.content else dataclasses.replace(mask, content=content)
    if mask is init.mask and resize == init.resize:
        return init
    return dataclasses.replace(init, resize=resize, mask=mask)


def _webui_name(text: str, known: Sequence[str]) -> str:
    name = text.casefold().replace("-", " ").replace("_", " ")
    return name if name in known else text


def _hyphened(names: Sequence[str]) -> str:
    """Names as the command's help lists them."""
    return ", ".join(name.replace(" ", "-") for name in names)


@lru_cache(_REMEMBERED)
def working_mask(mask: MaskSettings) -> Pixels:
    """The mask [H, W] as it is used, at its own size; it must not be changed.

    A wide blur of a large mask takes a second, and is needed when the settings are checked, when
    the picture starts, and when it is pasted.

    Raises:
        SettingError: its pixels are not there.
    """
    pixels = mask.pixels
    if not mask.soft:
        pixels = harden(pixels)
    if mask.invert:
        pixels = 255 - pixels
    return blur(pixels, mask.blur)


def first_step(steps: int, strength: float) -> int:
    """The step at which a changed picture starts.

    Source: `get_timesteps` of diffusers' StableDiffusionImg2ImgPipeline. The webui takes one step
    more of the same steps and strength.
    """
    return steps - min(int(steps * strength), steps)


def init_faults(init: InitSettings, steps: int, size: Size, most_steps: int) -> list[str]:
    """What is wrong with the settings of a run; pixels that are not there are asked for.

    Args:
        init: the settings.
        steps: of the run; what is not possible is not reckoned with.
        size: its width and height in pixels, likewise.
        most_steps: that a run may have.
    """
    faults = []
    if not 0 < init.strength <= 1:
        faults.append(f"the strength {init.strength:g} is not possible: choose above 0, at most 1")
    elif 0 < steps <= most_steps and first_step(steps, init.strength) == steps:
        faults.append(
            f"the strength {init.strength:g} leaves none of {steps} steps: choose at least "
            f"{math.ceil(1000 / steps) / 1000:g}, or more steps"
        )
    before = init.picture.width, init.picture.height
    only_masked = init.mask is not None and init.mask.only_masked
    if init.resize not in MODES:
        faults.append(f"no resize mode {init.resize!r}: choose one of {_hyphened(MODES)}")
    elif init.resize == EXTEND and not only_masked and (size[0] < before[0] or size[1] < before[1]):
        faults.append(
            f"a picture of {before[0]}x{before[1]} cannot be extended to {size[0]}x{size[1]}: "
            "leave the size out, or choose another resize mode"
        )
    elif init.resize == CROP and 0 < min(size) <= max(size) <= MAX_SIDE:
        wide, tall = scaled_size(before, size, CROP)
        if wide * tall > _MOST_CROPPED:
            faults.append(
                f"a picture of {before[0]}x{before[1]} pixels would have to be scaled to "
                f"{wide}x{tall} before {size[0]}x{size[1]} are cut out: choose another resize mode"
            )
    if init.picture.pixels is None:
        faults.append(init.picture.missing(*_PICTURE))
    elif init.pixels.ndim != 3:
        faults.append("the picture to start from is a mask: give one of three colours")
    return faults if init.mask is None else faults + _mask_faults(init.mask, init.picture)


def _mask_faults(mask: MaskSettings, picture: SourcePicture) -> list[str]:
    faults = []
    if not 0 <= mask.blur <= MAX_BLUR:
        faults.append(f"the mask blur {mask.blur:g} is not possible: choose 0 to {MAX_BLUR:g}")
    if mask.content not in CONTENTS:
        faults.append(f"no masked content {mask.content!r}: choose one of {_hyphened(CONTENTS)}")
    if not 0 <= mask.padding <= MAX_PADDING:
        faults.append(f"the padding {mask.padding} is not possible: choose 0 to {MAX_PADDING}")
    size, other = (mask.picture.width, mask.picture.height), (picture.width, picture.height)
    if size != other:
        faults.append(
            f"the mask is {size[0]}x{size[1]} and its picture {other[0]}x{other[1]}: "
            "make them one size"
        )
    if mask.picture.pixels is None:
        faults.append(mask.picture.missing(*_MASK))
    elif mask.pixels.ndim != 2:
        faults.append("the mask has colours: give one of grey levels")
    elif not faults and not working_mask(mask).any():
        faults.append("the mask leaves nothing to paint: its whole is dark, or light if inverted")
    return faults
