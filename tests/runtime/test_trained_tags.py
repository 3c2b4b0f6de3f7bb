"""Trained tags in prompts: which, in what order, and as the grammar means them."""

import dataclasses
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import SettingError
from engines.manifest import Preset
from runtime.prompt import parse_prompt
from runtime.prompt_schedule import parse_composition
from runtime.request import Request, settle
from runtime.trained_tags import add_tags, escape
from tests.runtime.stand_ins import MANIFEST

TAGS = {"cracked skin": 40, "glowing": 22, "skin (material)": 7, "Blue Skin": 3}
TAGGED = dataclasses.replace(
    MANIFEST,
    trained_tags={"Cracked Skin": TAGS, "offset": {"dark": 9}},
    presets={
        "plain": Preset(before="cracked skin, "),
        "tagged": Preset(before="cracked skin, ", after=", end", tags="all"),
        "two": Preset(tags="2"),
    },
)


def _prompt(**fields: str) -> str:
    (settled,) = settle(Request("a cat", **fields), TAGGED)  # type: ignore[arg-type]
    return settled.prompt


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({}, "a cat"),
        ({"tags": "none"}, "a cat"),
        ({"tags": "0"}, "a cat"),
        ({"tags": "1"}, "cracked skin, a cat"),
        ({"tags": "2"}, "cracked skin, glowing, a cat"),
        ({"tags": "all"}, r"cracked skin, glowing, skin \(material\), Blue Skin, a cat"),
        ({"tags": "99"}, r"cracked skin, glowing, skin \(material\), Blue Skin, a cat"),
        ({"preset": "plain"}, "cracked skin, a cat"),
        ({"preset": "plain", "tags": "2"}, "cracked skin, glowing, a cat"),
        ({"preset": "two"}, "cracked skin, glowing, a cat"),
        ({"preset": "two", "tags": "none"}, "a cat"),
        (
            {"preset": "tagged"},
            r"cracked skin, glowing, skin \(material\), Blue Skin, a cat, end",
        ),
    ],
)
def test_tags_follow_the_presets_words(fields: dict[str, str], prompt: str) -> None:
    assert _prompt(**fields) == prompt


@pytest.mark.parametrize(
    ("text", "added"),
    [
        ("a (cracked skin:1.3), b", r"cracked skin, glowing, skin \(material\), Blue Skin"),
        ("(cracked skin:1.3), b", r"glowing, skin \(material\), Blue Skin"),
        ("GLOWING, [blue skin]", r"cracked skin, skin \(material\)"),
        (r"skin \(material\), cracked skin tone", "cracked skin, glowing, Blue Skin"),
    ],
)
def test_what_is_there_already_is_not_added(text: str, added: str) -> None:
    assert add_tags(list(TAGS), text) == added


@pytest.mark.parametrize("tags", ["some", "-1", "1.5", "1e3", "all of them", "9999999", "\u0661"])
def test_other_tags_are_refused(tags: str) -> None:
    with pytest.raises(SettingError, match="choose all, none or a number"):
        _prompt(tags=tags)


def test_a_bundle_without_tags(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SettingError, match="stand-in knows no trained tags"):
        settle(Request("a", tags="all"), MANIFEST)
    bare = dataclasses.replace(TAGGED, trained_tags={"offset": {}})
    (settled,) = settle(Request("a", preset="tagged"), bare)
    assert settled.prompt == "cracked skin, a, end"
    assert caplog.records[-1].levelno == logging.WARNING


@given(st.text(alphabet=st.sampled_from("ab ()[]\\:|,1.5AND") | st.characters(), max_size=30))
@settings(max_examples=200, deadline=None)
def test_an_escaped_text_is_read_as_it_is(text: str) -> None:
    escaped = escape(text)
    (joined,) = parse_composition(escaped)
    spans = [span for section in parse_prompt("".join(map(str, joined.parts))) for span in section]
    assert {span.weight for span in spans} <= {1.0}
    assert "".join(span.text for span in spans).casefold() == text.casefold()
