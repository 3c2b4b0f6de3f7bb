"""Masks that reach none of a run's latents, and are refused before any work."""

import dataclasses

import numpy as np
import pytest

from engines import layout
from engines.errors import SettingError
from engines.manifest import ComponentSpec
from runtime.init_settings import InitSettings, MaskSettings
from runtime.request import Request, settle
from runtime.resize import CROP
from runtime.source_picture import SourcePicture
from tests.runtime.stand_ins import MANIFEST

SIZE = (72, 96)
PHOTO = SourcePicture.of(np.zeros((*SIZE, 3), np.uint8))


def _mask(top: int, bottom: int, left: int, right: int) -> SourcePicture:
    pixels = np.zeros(SIZE, np.uint8)
    pixels[top:bottom, left:right] = 255
    return SourcePicture.of(pixels)


DOT = MaskSettings(_mask(20, 23, 30, 33), blur=0)
CELL = MaskSettings(_mask(24, 32, 32, 40), blur=0)
SIDE = MaskSettings(_mask(0, 72, 0, 8))


def _with_channels(component: ComponentSpec, name: str, channels: int) -> ComponentSpec:
    inputs = tuple(
        dataclasses.replace(each, shape=(each.shape[0], channels, *each.shape[2:]))
        if each.name == name
        else each
        for each in component.inputs
    )
    return dataclasses.replace(component, inputs=inputs)


_UNET = _with_channels(MANIFEST.components[layout.UNET], layout.SAMPLE, 9)
SEES_MASK = dataclasses.replace(MANIFEST, components={**MANIFEST.components, layout.UNET: _UNET})


@pytest.mark.parametrize(
    ("mask", "width", "height", "paints"),
    [
        (DOT, 96, 72, False),
        (dataclasses.replace(DOT, soft=True), 96, 72, True),
        (dataclasses.replace(DOT, only_masked=True, padding=4), 64, 64, True),
        (dataclasses.replace(DOT, only_masked=True, padding=32), 64, 64, False),
        (CELL, 96, 72, True),
        (dataclasses.replace(CELL, blur=4), 96, 72, False),
        (SIDE, 96, 72, True),
        (SIDE, 64, 96, False),
    ],
    ids=[
        "too small",
        "in part",
        "enlarged",
        "hardly enlarged",
        "one latent",
        "blurred away",
        "at the side",
        "cut off",
    ],
)
def test_a_mask_that_reaches_no_latent_is_refused(
    mask: MaskSettings, width: int, height: int, paints: bool
) -> None:
    init = InitSettings(PHOTO, resize=CROP, mask=mask)
    request = Request("a cat", init=init, width=width, height=height)
    if paints:
        assert settle(request, MANIFEST)
        return
    with pytest.raises(SettingError, match="paints nothing: it covers none of the latents"):
        settle(request, MANIFEST)


@pytest.mark.parametrize(("level", "paints"), [(127, False), (128, True)])
def test_a_unet_that_sees_the_mask_is_told_of_no_grey(level: int, paints: bool) -> None:
    grey = SourcePicture.of(np.full(SIZE, level, np.uint8))
    init = InitSettings(PHOTO, mask=MaskSettings(grey, blur=0, soft=True))
    request = Request("a cat", init=init)
    assert settle(request, MANIFEST), "in part"
    if paints:
        assert settle(request, SEES_MASK)
        return
    with pytest.raises(SettingError, match=r"paints nothing.* Make it larger, lighter or less"):
        settle(request, SEES_MASK)
