"""Tags of LoRAs that are in the bundle, and of others."""

import dataclasses
import logging

import pytest

from engines.errors import SettingError
from runtime.lora_tags import baked_loras, strip_lora_tags
from tests.runtime.stand_ins import MANIFEST

BAKED = {"Cracked Skin": "0.6", "offset": "0.4"}


def test_the_bundle_says_which_loras_are_in_it() -> None:
    assert baked_loras(MANIFEST) == {"Cracked Skin": "0.6"}
    assert baked_loras(dataclasses.replace(MANIFEST, provenance={})) == {}


@pytest.mark.parametrize(
    "tag", ["<lora:Cracked Skin:0.6>", "<lora:cracked skin:1:0.5>", "<lora:Cracked Skin>"]
)
def test_a_baked_lora_is_stripped_with_a_warning(
    tag: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert strip_lora_tags(f"a {tag}, b", BAKED) == "a , b"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert tag in record.getMessage()
    assert "0.6" in record.getMessage()


def test_another_lora_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(SettingError, match=r"<lora:Other:1>.*Cracked Skin, offset"):
        strip_lora_tags("a <lora:offset:1> <lora:Other:1>", BAKED)
    with pytest.raises(SettingError, match="in it: none"):
        strip_lora_tags("<lora:Other:1>", {})


def test_other_angle_brackets_are_text(caplog: pytest.LogCaptureFixture) -> None:
    assert strip_lora_tags("a <b> <lorax:c:1> lora:d", BAKED) == "a <b> <lorax:c:1> lora:d"
    assert not caplog.records
