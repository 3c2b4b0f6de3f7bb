"""What `settle` sees to, and settings that were changed afterwards may lack."""

import dataclasses
import reprlib
from typing import TYPE_CHECKING

from runtime.extra_networks import extra_networks_in
from runtime.hires import settle_hires

if TYPE_CHECKING:
    from runtime.request import Settings


def unsettled_faults(settings: "Settings", downscale: int) -> list[str]:
    """What would have no effect, or differ from what the picture's file says of it.

    A second pass whose size was asked for may have any: which of its sides followed from the
    first pass, settings do not say.

    Args:
        settings: possible ones.
        downscale: pixels per latent along one side.
    """
    faults = []
    for name, text in (("prompt", settings.prompt), ("negative prompt", settings.negative)):
        faults += [
            f"the {name} still has {reprlib.repr(tag)}, a tag of requests"
            for tag in extra_networks_in(text)[:1]
        ]
    noise = settings.noise
    if noise.subseed_strength and noise.subseed is None:
        faults.append(f"a subseed strength of {noise.subseed_strength:g} needs a subseed")
    hires, width, height = settings.hires, settings.width, settings.height
    if hires is not None and hires.scale:
        asked = dataclasses.replace(hires, width=0, height=0)
        scaled = settle_hires(asked, width, height, settings.steps, downscale)
        if (hires.width, hires.height) != (scaled.width, scaled.height):
            faults.append(
                f"the hires scale {hires.scale:g} makes {scaled.width}x{scaled.height} of "
                f"{width}x{height}, not {hires.width}x{hires.height}"
            )
    return faults
