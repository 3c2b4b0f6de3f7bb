"""Axes of contact sheets."""

import dataclasses

import pytest

from engines.errors import SettingError
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


def test_another_sampler_brings_its_schedule() -> None:
    requests = parse_sheet("sampler=Euler a,DPM++ 2M SDE Karras,ddim").requests(REQUEST)
    schedules = [settle(each, MANIFEST)[0].schedule for each in requests]
    assert schedules == ["normal", "karras", "model"]


VALUES = {
    "sampler": "Euler a,DDIM",
    "schedule": "karras,normal",
    "prompt": '"a, b",c',
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
    ("text", "message"),
    [
        ("", "0 axes; a sheet has one or two"),
        ("cfg=1;steps=2;seed=3", "3 axes"),
        ("cfg", "'cfg' is no axis: write NAME=VALUE,VALUE"),
        ("cfg=", "no axis"),
        ("colour=1", "No axis 'colour'; choose one of seed, steps, cfg"),
        ("size:a=1", "No axis 'size:a'"),
        ("weight=1", "No axis 'weight'"),
        ("steps=1.5", r"'1\.5' is no value for the axis steps"),
        ("size=64", "'64' is no value for the axis size"),
        ("weight:a=x", "'x' is no value for the axis weight:a"),
        ("seed=5..1", r"'5\.\.1' is no range"),
        ("seed=1..99999999999", "is no range of 1 to 1000 numbers"),
        ("seed=1..100;cfg=1,2,3,4,5,6,7,8,9,10,11", "1100 pictures is not possible"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        parse_sheet(text)
