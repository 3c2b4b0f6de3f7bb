"""What follows from the picture to start from: its size, and the names of how it is taken."""

import dataclasses

import numpy as np
import pytest

from engines.errors import SettingError
from runtime.init_settings import InitSettings, MaskSettings, settle_init
from runtime.request import Request, Settings, settle
from runtime.resize import CROP
from runtime.source_picture import SourcePicture
from tests.runtime.stand_ins import MANIFEST

HIGH = SourcePicture.of(np.zeros((3000, 16, 3), np.uint8))
ALL = MaskSettings(SourcePicture.of(np.full((3000, 16), 255, np.uint8)))


def _settle(init: InitSettings, width: int | None = None, height: int | None = None) -> Settings:
    (settings,) = settle(Request("a", width=width, height=height, init=init), MANIFEST)
    return settings


def _refusal(init: InitSettings, width: int | None = None, height: int | None = None) -> str:
    with pytest.raises(SettingError) as caught:
        _settle(init, width, height)
    return str(caught.value)


def test_a_picture_whose_size_is_not_possible_needs_another_one() -> None:
    init, masked = InitSettings(HIGH), InitSettings(HIGH, mask=ALL)
    ask = "is not possible: ask for a size of 64 to 2048 (--size)"
    said = _refusal(init)
    assert said == f"the picture's width 16 {ask}; the picture's height 3000 {ask}."
    assert _refusal(init, height=64) == f"the picture's width 16 {ask}."
    assert _refusal(init, 64, 3000) == "the height 3000 is not possible: choose 64 to 2048."
    alone = "or for the masked part alone (--only-masked)"
    assert f"the picture's height 3000 {ask}, {alone}" in _refusal(masked)
    for way_out in (
        _settle(init, 64, 64),
        _settle(masked, 64, 64),
        _settle(dataclasses.replace(masked, mask=dataclasses.replace(ALL, only_masked=True))),
    ):
        assert (way_out.width, way_out.height) == (64, 64)


@pytest.mark.parametrize("spelling", ["crop-and-resize", "crop_and_resize", "Crop And Resize"])
def test_names_may_be_written_as_help_writes_them(spelling: str) -> None:
    mask = dataclasses.replace(ALL, content="Latent-Noise")
    settled = _settle(InitSettings(HIGH, resize=spelling, mask=mask), 64, 64).init
    assert settled is not None
    webuis = dataclasses.replace(ALL, content="latent noise")
    assert settled == InitSettings(HIGH, resize=CROP, mask=webuis)
    assert settle_init(settled) is settled
