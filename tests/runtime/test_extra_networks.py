"""Tags of LoRAs that are in the bundle, of others, and of hypernetworks."""

import dataclasses
import logging

import pytest

from engines.errors import SettingError
from runtime.extra_networks import baked_loras, strip_extra_networks
from tests.runtime.stand_ins import MANIFEST

BAKED = {"Cracked Skin": "0.6", "offset": "0.4"}


def test_the_bundle_says_which_loras_are_in_it() -> None:
    assert baked_loras(MANIFEST) == {"Cracked Skin": "0.6"}
    assert baked_loras(dataclasses.replace(MANIFEST, provenance={})) == {}


@pytest.mark.parametrize(
    "tag",
    [
        "<lora:Cracked Skin:0.6>",
        "<lora:cracked skin:1:0.5>",
        "<lora:Cracked Skin>",
        "<lyco:Cracked Skin:1>",
        "<lyco:cracked skin:te=1:unet=0.5:dyn=8>",
    ],
)
def test_a_baked_lora_is_stripped_with_a_warning(
    tag: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert strip_extra_networks(f"a {tag}, b", BAKED) == "a , b"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert tag in record.getMessage()
    assert "0.6" in record.getMessage()


def test_another_lora_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(SettingError, match=r"<lora:Other:1>.*Cracked Skin, offset"):
        strip_extra_networks("a <lora:offset:1> <lora:Other:1>", BAKED)
    with pytest.raises(SettingError, match=r"<lyco:Other:1>.*Cracked Skin, offset"):
        strip_extra_networks("a <lora:offset:1> <lyco:Other:1>", BAKED)
    with pytest.raises(SettingError, match="in it: none"):
        strip_extra_networks("<lora:Other:1>", {})


@pytest.mark.parametrize("tag", ["<hypernet:Cracked Skin:1>", "<hypernet:Other>"])
def test_a_hypernetwork_is_always_an_error(tag: str) -> None:
    with pytest.raises(SettingError, match=f"^The hypernetwork of {tag} is not in this bundle"):
        strip_extra_networks(f"a {tag}, <lora:offset:1>", BAKED)


def test_other_angle_brackets_are_text(caplog: pytest.LogCaptureFixture) -> None:
    for text in ("a <b> <lorax:c:1> lora:d", "<hypernet>, hypernet:d, <xlyco:c:1>, <lyco:>"):
        assert strip_extra_networks(text, BAKED) == text
    assert not caplog.records
