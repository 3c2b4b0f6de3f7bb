"""Settings that were changed by hand, and would be made otherwise than their files say."""

import dataclasses

import pytest

from engines.errors import SettingError
from runtime.hires import HiresSettings
from runtime.request import Request, Settings, check_settings, settle
from runtime.seeds import NoiseSettings
from tests.runtime.stand_ins import MANIFEST

REQUEST = Request("a cat", seed=1, noise=NoiseSettings(subseed=5, subseed_strength=0.5))


def _settings(**fields: object) -> Settings:
    (settings,) = settle(dataclasses.replace(REQUEST, **fields), MANIFEST)  # type: ignore[arg-type]
    return settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": "a <lora:Cracked Skin:1>"}, "the prompt still has '<lora:Cracked Skin:1>'"),
        ({"negative": "<hypernet:b>"}, "the negative prompt still has '<hypernet:b>'"),
        ({"noise": NoiseSettings(subseed_strength=0.5)}, "strength of 0.5 needs a subseed"),
    ],
)
def test_what_settle_would_have_changed_is_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingError) as caught:
        check_settings(dataclasses.replace(_settings(), **changes), MANIFEST)  # type: ignore[arg-type]
    said = str(caught.value)
    assert message in said
    assert said.endswith(": change a Request, and `settle` it.")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("changes", "schedule"),
    [
        ({"sampler": "k_dpmpp_2m"}, "karras"),
        ({"schedule": "Exponential"}, "exponential"),
        ({"schedule": "automatic"}, "karras"),
    ],
)
def test_other_spellings_become_the_names_that_files_have(
    changes: dict[str, str], schedule: str
) -> None:
    changed = check_settings(dataclasses.replace(_settings(), **changes), MANIFEST)  # type: ignore[arg-type]
    assert (changed.sampler, changed.schedule) == ("DPM++ 2M", schedule)


def test_a_hires_scale_makes_the_size_that_it_says() -> None:
    scaled = _settings(hires=HiresSettings(scale=2))
    with pytest.raises(SettingError, match="scale 2 makes 192x128 of 96x64, not 128x128"):
        check_settings(dataclasses.replace(scaled, width=96), MANIFEST)
    larger = dataclasses.replace(HiresSettings(scale=2), width=192, height=128)
    wide = _settings(width=96, hires=HiresSettings(scale=2))
    assert wide.hires == dataclasses.replace(larger, steps=4)
    assert check_settings(wide, MANIFEST) is wide


def test_what_says_what_it_means_passes() -> None:
    sized = dataclasses.replace(_settings(hires=HiresSettings(width=128)), width=96)
    for settings in (
        _settings(),
        dataclasses.replace(_settings(), sampler="DDIM", schedule="trailing"),
        dataclasses.replace(_settings(), prompt="a dog", noise=NoiseSettings()),
        sized,
    ):
        assert check_settings(settings, MANIFEST) is settings
