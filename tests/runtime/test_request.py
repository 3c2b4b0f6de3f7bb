"""Requests filled with a bundle's defaults, and what is refused."""

import dataclasses

import pytest

from engines.errors import SettingError
from engines.manifest import Defaults, Preset
from runtime.prompt_schedule import parse_composition
from runtime.request import Request, Settings, settle
from tests.runtime.stand_ins import MANIFEST


def _settle(**fields: object) -> Settings:
    (settings,) = settle(dataclasses.replace(Request("a cat"), **fields), MANIFEST)  # type: ignore[arg-type]
    return settings


def test_what_is_left_out_is_the_bundles_default() -> None:
    assert _settle(seed=5) == Settings(
        prompt="a cat",
        negative="blurry",
        seed=5,
        steps=4,
        cfg=4.0,
        sampler="DPM++ 2M",
        schedule="karras",
        width=64,
        height=64,
        clip_skip=1,
    )


def test_what_is_given_counts() -> None:
    settings = _settle(
        negative="",
        seed=2**64 - 1,
        steps=1000,
        cfg=1,
        sampler="ddim",
        schedule="trailing",
        width=2048,
        height=72,
        clip_skip=2,
    )
    assert settings == Settings("a cat", "", 2**64 - 1, 1000, 1.0, "DDIM", "trailing", 2048, 72, 2)


def test_a_sampler_takes_its_own_schedule() -> None:
    assert _settle(sampler="DDIM").schedule == "model"
    assert _settle(sampler="dpm++ 2m").schedule == "karras"
    assert _settle(sampler="DPM++ 2M Karras").schedule == "karras"
    assert _settle(schedule="exponential").schedule == "exponential"
    assert _settle().schedule == "karras"


def test_several_pictures_have_seeds_in_a_row() -> None:
    settings = settle(Request("a", seed=7, count=3), MANIFEST)
    assert [each.seed for each in settings] == [7, 8, 9]
    assert len({dataclasses.replace(each, seed=0) for each in settings}) == 1


def test_without_a_seed_chance_decides() -> None:
    seeds = {_settle().seed for _ in range(20)}
    assert len(seeds) > 15
    assert all(0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize(
    ("preset", "prompt", "negative"),
    [
        ("cracked", "cracked skin, a cat", "smooth skin, blurry"),
        ("glowing", "glowing, a cat, (dark skin:1.2)", "blurry"),
        ("none", "a cat", "blurry"),
        ("", "a cat", "blurry"),
        (None, "a cat", "blurry"),
    ],
)
def test_a_preset_puts_its_words_around(preset: str | None, prompt: str, negative: str) -> None:
    settings = _settle(preset=preset)
    assert (settings.prompt, settings.negative) == (prompt, negative)


@pytest.mark.parametrize(
    ("asked", "prompt"),
    [
        ("a cat AND a dog :0.5", "glowing, a cat AND a dog, (dark skin:1.2) :0.5"),
        ("a cat AND a dog:-2", "glowing, a cat AND a dog, (dark skin:1.2) :-2"),
        (
            "a cat AND a dog :0.5 <lora:Cracked Skin:0.6>",
            "glowing, a cat AND a dog, (dark skin:1.2) :0.5",
        ),
        ("a cat :0.5 AND a dog", "glowing, a cat :0.5 AND a dog, (dark skin:1.2)"),
        ("ratio 16:9", "glowing, ratio 16:9, (dark skin:1.2)"),
    ],
)
def test_a_presets_words_do_not_take_the_last_prompts_weight(asked: str, prompt: str) -> None:
    settings = _settle(prompt=asked, preset="glowing")
    assert settings.prompt == prompt
    weights = [each.weight for each in parse_composition(settings.prompt)]
    assert weights == [each.weight for each in parse_composition(_settle(prompt=asked).prompt)]


def test_a_preset_may_join_a_prompt_by_itself() -> None:
    preset = Preset(after="AND stone :0.3")
    manifest = dataclasses.replace(MANIFEST, presets={"stone": preset})
    (settings,) = settle(Request("a AND b", preset="stone"), manifest)
    assert settings.prompt == "a AND b, AND stone :0.3"


def test_the_bundles_preset_can_be_declined() -> None:
    manifest = dataclasses.replace(MANIFEST, defaults=Defaults(preset="cracked"))
    (given,) = settle(Request("a cat"), manifest)
    (declined,) = settle(Request("a cat", preset="none"), manifest)
    assert given.prompt == "cracked skin, a cat"
    assert declined.prompt == "a cat"


def test_a_preset_goes_with_ones_own_negative_prompt() -> None:
    assert _settle(preset="cracked", negative="dog").negative == "smooth skin, dog"
    assert _settle(preset="cracked", negative="").negative == "smooth skin"


@pytest.mark.parametrize("prompt", ["a, b,", "  a\nb ", ", a", ""])
def test_a_prompt_alone_keeps_its_commas(prompt: str) -> None:
    assert _settle(prompt=prompt).prompt == prompt.strip()


def test_baked_loras_are_stripped() -> None:
    assert _settle(prompt="a <lora:Cracked Skin:0.6>").prompt == "a"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 100}, "width 100 is not a multiple of 8: choose 96 or 104"),
        ({"height": 65}, "height 65 is not a multiple of 8: choose 64 or 72"),
        ({"height": 3}, "height 3 is not possible: choose 64 to 2048"),
        ({"width": 99_999}, "width 99999 is not possible: choose 64 to 2048"),
        ({"height": 4096}, "height 4096 is not possible: choose 64 to 2048"),
        ({"width": -64}, "width -64 is not possible"),
        ({"steps": 0}, "0 steps are not possible: choose 1 to 1000"),
        ({"steps": 1001}, "1001 steps"),
        ({"cfg": 0.5}, "guidance scale 0.5 is not possible"),
        ({"cfg": float("nan")}, "guidance scale nan"),
        ({"cfg": float("inf")}, "guidance scale inf"),
        ({"sampler": "Euler z"}, "No sampler 'Euler z'; choose one of DPM"),
        ({"schedule": "polka"}, "no schedule 'polka'"),
        ({"sampler": "DDIM", "schedule": "karras"}, "DDIM has no schedule 'karras'"),
        ({"preset": "shiny"}, "No preset 'shiny' in stand-in; choose one of none, cracked"),
        ({"clip_skip": 3}, "clip skip 3 is not possible: choose 1 or 2"),
        ({"count": 0}, "0 pictures"),
        ({"count": 1001}, "1001 pictures"),
        ({"seed": -1}, "seed -1 is not possible"),
        ({"seed": 2**64 - 1, "count": 2}, "seed 18446744073709551615 is not possible"),
        ({"prompt": "[a|b:0.5]"}, "neither prompt editing"),
        ({"negative": "[a|b:0.5]"}, "neither prompt editing"),
        ({"prompt": "a AND b:1000"}, "weight 1000 of a prompt joined by AND"),
        ({"prompt": "(" * 101}, "More than 100 brackets"),
        ({"prompt": "x" * 10_001}, "prompt has 10001 characters"),
        ({"prompt": "<lora:other:1>"}, "not in this bundle"),
    ],
)
def test_what_is_not_possible_is_said(fields: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError) as caught:
        _settle(**fields)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_impossible_numbers_are_named_at_once() -> None:
    with pytest.raises(SettingError, match=r"width 65.*height 66.*0 steps.*scale 0 "):
        _settle(width=65, height=66, steps=0, cfg=0)


def test_a_negative_prompt_that_has_no_part_is_not_read() -> None:
    assert _settle(negative="[a|b:0.5]", cfg=1).cfg == 1


def test_and_in_a_negative_prompt_is_a_word(caplog: pytest.LogCaptureFixture) -> None:
    assert _settle(negative="a AND b").negative == "a AND b"
    assert "AND is a word" in caplog.text
