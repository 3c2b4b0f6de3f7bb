"""Axes of contact sheets."""

import csv
import dataclasses
import itertools

import pytest

from engines.errors import SettingError
from runtime.prompt import Span, parse_prompt
from runtime.request import Request, settle
from runtime.sheet_axes import _AXES, parse_sheet
from tests.runtime.stand_ins import MANIFEST

REQUEST = Request("a cat, cracked skin", seed=3, sampler="DPM++ 2M", schedule="exponential")


def test_columns_run_first() -> None:
    sheet = parse_sheet("cfg=1,4.5; steps = 5, 10")
    assert sheet.columns.labels == ("cfg 1", "cfg 4.5")
    assert sheet.rows is not None
    assert sheet.rows.labels == ("steps 5", "steps 10")
    requests = sheet.requests(REQUEST)
    assert [(each.cfg, each.steps) for each in requests] == [(1, 5), (4.5, 5), (1, 10), (4.5, 10)]
    assert all(dataclasses.replace(each, cfg=None, steps=None) == REQUEST for each in requests)


def test_one_axis_is_one_row() -> None:
    sheet = parse_sheet("seed=1..3,7")
    assert sheet.rows is None
    assert [each.seed for each in sheet.requests(REQUEST)] == [1, 2, 3, 7]


def test_words_are_weighed_or_replaced() -> None:
    sheet = parse_sheet('weight:cracked skin=0.5,1.25;replace:cat="dog, white",cow')
    assert sheet.columns.labels == ("cracked skin 0.5", "cracked skin 1.25")
    assert sheet.rows is not None
    assert sheet.rows.labels == ("dog, white", "cow")
    assert [each.prompt for each in sheet.requests(REQUEST)] == [
        "a dog, white, (cracked skin:0.5)",
        "a dog, white, (cracked skin:1.25)",
        "a cow, (cracked skin:0.5)",
        "a cow, (cracked skin:1.25)",
    ]
    with pytest.raises(SettingError, match="The prompt has no 'glowing'"):
        parse_sheet("weight:glowing=1").requests(REQUEST)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("0.00001", "0.00001"),
        ("1e6", "1000000"),
        ("1e-7", "0.0000001"),
        ("2.0", "2"),
        ("-0.5", "-0.5"),
        ("1.23456789012", "1.23456789012"),
        ("1e22", "1" + 22 * "0"),
    ],
)
def test_weights_are_written_as_prompts_read_them(value: str, written: str) -> None:
    (request,) = parse_sheet(f"weight:cat={value}").requests(REQUEST)
    assert request.prompt == f"a (cat:{written}), cracked skin"
    (spans,) = parse_prompt(request.prompt)
    assert spans[1] == Span("cat", float(value))


def test_another_sampler_brings_its_schedule() -> None:
    requests = parse_sheet("sampler=Euler a,DPM++ 2M SDE Karras,ddim").requests(REQUEST)
    schedules = [settle(each, MANIFEST)[0].schedule for each in requests]
    assert schedules == ["normal", "karras", "model"]


VALUES = {
    "sampler": "Euler a,DDIM",
    "schedule": "karras,normal",
    "prompt": '"a cat, b",cat',
    "negative": "a,b",
    "preset": "cracked,none",
    "size": "64x64,128x64",
    "noise": "cpu,nv",
}


@pytest.mark.parametrize("name", _AXES)
def test_every_axis_changes_the_request(name: str) -> None:
    sheet = parse_sheet(f"{name.upper().replace('-', '_')}={VALUES.get(name, '1,2')}")
    first, second = sheet.requests(REQUEST)
    assert first != second
    assert len(set(sheet.columns.labels)) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    list(
        itertools.combinations(
            [
                *(f"{name}={VALUES.get(name, '1,2')}" for name in _AXES),
                "weight:cat=0.5,1.5",
                "replace:cat=dog,cow",
            ],
            2,
        )
    ),
)
def test_which_axis_comes_first_does_not_matter(first: str, second: str) -> None:
    across = parse_sheet(f"{first};{second}").requests(REQUEST)
    down = parse_sheet(f"{second};{first}").requests(REQUEST)
    assert across == [down[0], down[2], down[1], down[3]]
    assert len(set(across)) == 4


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        ("prompt=a cat,the cat;weight:cat=0.5", ["a (cat:0.5)", "the (cat:0.5)"]),
        ("weight:cracked skin=2;weight:skin=0.5", ["a cat, (cracked (skin:0.5):2)"]),
        (
            "weight:cat=0.5;replace:cat=dog,cow",
            ["a (dog:0.5), cracked skin", "a (cow:0.5), cracked skin"],
        ),
    ],
)
def test_texts_change_from_the_whole_to_its_parts(text: str, prompts: list[str]) -> None:
    for axes in (text, ";".join(reversed(text.split(";")))):
        assert [each.prompt for each in parse_sheet(axes).requests(REQUEST)] == prompts


def test_a_schedule_that_is_kept_is_every_samplers() -> None:
    sheet = parse_sheet("sampler=Euler,DPM++ 2M")
    assert {each.schedule for each in sheet.requests(REQUEST)} == {None}
    kept = sheet.requests(REQUEST, keep_schedule=True)
    assert {each.schedule for each in kept} == {"exponential"}


def test_words_are_whole_ones() -> None:
    request = dataclasses.replace(REQUEST, prompt="a woman, a man, (man), C++, man-made")
    (weighed,) = parse_sheet("weight:man=0.5").requests(request)
    assert weighed.prompt == "a woman, a (man:0.5), ((man:0.5)), C++, (man:0.5)-made"
    (replaced,) = parse_sheet(r"replace:C++=\1").requests(request)
    assert replaced.prompt == r"a woman, a man, (man), \1, man-made"
    for text in ("weight:wo=1", "replace:oma=x", "replace:a w=x"):
        with pytest.raises(SettingError, match="The prompt has no"):
            parse_sheet(text).requests(request)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_ends_of_lines_are_spaces(end: str) -> None:
    sheet = parse_sheet(f'prompt=a,{end}b,"c,{end}d";{end}cfg=1,{end}2{end}')
    assert sheet.columns.labels == ("a", "b", f"c,{' ' * len(end.splitlines())}d")
    assert sheet.rows is not None
    assert sheet.rows.labels == ("cfg 1", "cfg 2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 axes; a sheet has one or two"),
        ("cfg=1;steps=2;seed=3", "3 axes"),
        ("cfg=1,2; CFG=3,4", "The axis cfg is there twice"),
        ("weight:a=1;weight: a =2", "The axis weight:a is there twice"),
        ("cfg", "'cfg' is no axis: write NAME=VALUE,VALUE"),
        ("cfg=", "no axis"),
        ("colour=1", "No axis 'colour'; choose one of seed, steps, cfg"),
        ("size:a=1", "No axis 'size:a'"),
        ("weight=1", "No axis 'weight'"),
        ("steps=1.5", r"'1\.5' is no value for the axis steps"),
        ("size=64", "'64' is no value for the axis size"),
        ("weight:a=x", "'x' is no value for the axis weight:a"),
        ("weight:a=1,nan", "'nan' is no value for the axis weight:a"),
        ("weight:a=-inf", "'-inf' is no value for the axis weight:a"),
        ("weight:a=1e999", "'1e999' is no value for the axis weight:a"),
        ("seed=5..1", r"'5\.\.1' is no range"),
        ("seed=1..99999999999", "is no range of 1 to 1000 numbers"),
        ("seed=1..100;cfg=1,2,3,4,5,6,7,8,9,10,11", "1100 pictures is not possible"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        parse_sheet(text)


def test_values_that_csv_cannot_read_are_refused() -> None:
    with pytest.raises(SettingError, match="cannot be read as values with commas: field larger"):
        parse_sheet(f"prompt={'x' * (csv.field_size_limit() + 1)}")
