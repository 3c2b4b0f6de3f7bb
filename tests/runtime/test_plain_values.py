"""Numbers of numpy's become Python's; what is no number of its field's kind is named."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from engines.errors import SettingError
from runtime.guidance import GuidanceSettings
from runtime.hires import HiresSettings
from runtime.init_settings import InitSettings, MaskSettings
from runtime.metadata import format_record, parse_record
from runtime.plain_values import plain
from runtime.request import Request, settle
from runtime.samplers.stochasticity import Stochasticity
from runtime.seeds import NoiseSettings
from runtime.source_picture import SourcePicture
from tests.runtime.examples import ORIGIN, SMOOTH
from tests.runtime.stand_ins import MANIFEST

PHOTO = SourcePicture.of(SMOOTH)
WHITE = SourcePicture.of(np.full(SMOOTH.shape[:2], 255, np.uint8))
HALF: Any = np.float32(0.5)
FOUR: Any = np.int64(4)
NO: Any = np.bool_(False)


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": np.random.default_rng(0).integers(2**32)},
        {"seed": np.uint64(2**64 - 1)},
        {"seed": np.uint8(250), "count": np.int16(10)},
        {"steps": np.int64(3), "width": np.int32(72), "height": np.array(64)},
        {"clip_skip": np.uint8(2)},
        {"cfg": np.float32(2.5)},
        {"cfg": FOUR},
        {"noise": NoiseSettings("cpu", FOUR, HALF, eta_seed_delta=FOUR)},
        {"guidance": GuidanceSettings(rescale=HALF)},
        {"stochasticity": Stochasticity(eta=HALF), "sampler": "DDIM"},
        {"hires": HiresSettings(3 * HALF, steps=FOUR)},
        {"hires": HiresSettings(width=32 * FOUR, strength=HALF)},
        {"init": InitSettings(PHOTO, HALF, mask=MaskSettings(WHITE, HALF, NO, padding=FOUR))},
    ],
    ids=str,
)
def test_numbers_of_numpys_end_in_the_record_as_pythons(fields: dict[str, Any]) -> None:
    for settings in settle(Request("a", **({"seed": 1} | fields)), MANIFEST):
        read, _ = parse_record(format_record(settings, ORIGIN))
        assert read == settings
        assert repr(read) == repr(settings)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 3.0}, "steps takes a whole number, not 3.0."),
        ({"steps": "3"}, "steps takes a whole number, not '3'."),
        ({"seed": 7.0}, "seed takes a whole number, not 7.0."),
        ({"seed": np.float64(7)}, "seed takes a whole number, not np.float64(7.0)."),
        ({"count": True}, "count takes a whole number, not True."),
        ({"count": None}, "count takes a whole number, not None."),
        ({"cfg": "7"}, "cfg takes a number, not '7'."),
        ({"cfg": 10**400}, "cfg takes a number, not 1000"),
        ({"cfg": np.ones((2, 2))}, "cfg takes a number, not array([["),
        ({"tags": 5}, "tags takes a text, not 5."),
        ({"noise": None}, "noise takes NoiseSettings, not None."),
        ({"noise": NoiseSettings(subseed=1.5)}, "noise.subseed takes a whole number, not 1.5."),  # type: ignore[arg-type]
        (
            {"init": InitSettings(PHOTO, mask=MaskSettings(WHITE, soft=1))},  # type: ignore[arg-type]
            "init.mask.soft takes True or False, not 1.",
        ),
        ({"init": InitSettings(SMOOTH)}, "init.picture takes SourcePicture, not array("),  # type: ignore[arg-type]
        (
            {"width": "64", "height": 64.5},
            "width takes a whole number, not '64'; height takes a whole number, not 64.5.",
        ),
    ],
)
def test_what_is_no_number_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError) as caught:
        settle(Request("a", **fields), MANIFEST)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_plain_stays_the_very_object() -> None:
    (settings,) = settle(Request("a", init=InitSettings(PHOTO), width=96), MANIFEST)
    assert plain(settings) is settings
    changed = plain(dataclasses.replace(settings, steps=FOUR))
    assert changed == dataclasses.replace(settings, steps=4)
    assert changed.init is settings.init
