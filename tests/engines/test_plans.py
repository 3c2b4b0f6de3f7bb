"""plans.json: what is written is read again, and what is wrong is named."""

import json
from dataclasses import replace
from typing import Any

import pytest

from engines import layout
from engines.bundle import Bundle
from engines.errors import BundleError
from engines.plan_sets import find_plans, open_plans
from engines.plans import (
    TENSORRT_RTX,
    ShapeRange,
    capability,
    read_plans,
    target_name,
)
from tests.engines.plan_files import add_plan_set


def test_round_trip(bundle: Bundle) -> None:
    content, directory = add_plan_set(bundle, "sm86", "sm89")
    assert directory.name == "tensorrt-rtx-sm86-sm89"
    assert read_plans(directory / layout.PLANS_FILE) == content
    opened = open_plans(bundle, TENSORRT_RTX, "sm89")
    assert opened.content == content
    assert opened.file("unet") == directory / "unet.plan"
    with pytest.raises(BundleError, match="no plan of vae_decoder"):
        opened.file("vae_decoder")


def test_hardware_compatibility(bundle: Bundle) -> None:
    none, _ = add_plan_set(bundle, "sm80", backend="tensorrt")
    ampere = replace(none, hardware_compatibility="ampere-plus")
    same = replace(none, hardware_compatibility="same-compute-capability")
    targets = ("sm75", "sm80", "sm90", "sm120")
    assert [none.serves(target) for target in targets] == [False, True, False, False]
    assert [same.serves(target) for target in targets] == [False, True, False, False]
    assert [ampere.serves(target) for target in targets] == [False, True, True, True]


def test_names_of_architectures() -> None:
    assert capability("sm75") == (7, 5)
    assert capability("sm120") == (12, 0)
    assert target_name(12, 1) == "sm121"
    for text in ("", "sm", "sm9", "89", "sm8.9", "smab"):
        with pytest.raises(ValueError):
            capability(text)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda c: c.update(revision=9), "is of revision 9"),
        (lambda c: c.pop("gpu"), "gpu is missing"),
        (lambda c: c.update(extra=1), "extra is unknown"),
        (lambda c: c.update(targets=["89"]), r"targets\[0\] has the unexpected value '89'"),
        (lambda c: c["components"].update(x=c["components"]["unet"]), r"components\.x is unknown"),
        (
            lambda c: c["components"]["unet"].update(file="../unet.plan"),
            r"components\.unet\.file has .*'\.\./unet\.plan'",
        ),
        (
            lambda c: c["components"]["unet"]["profiles"][0]["sample"].update(min=["1"]),
            r"profiles\[0\]\.sample\.min\[0\]",
        ),
    ],
)
def test_a_wrong_field_is_named(bundle: Bundle, change: Any, fault: str) -> None:
    _, directory = add_plan_set(bundle, "sm89")
    content = json.loads((directory / layout.PLANS_FILE).read_text())
    change(content)
    (directory / layout.PLANS_FILE).write_text(json.dumps(content))
    with pytest.raises(BundleError, match=fault):
        read_plans(directory / layout.PLANS_FILE)
    (found,) = find_plans(bundle)
    assert found.content is None
    with pytest.raises(BundleError, match="no plans of tensorrt-rtx for sm89"):
        open_plans(bundle, TENSORRT_RTX, "sm89")


def test_a_range_of_shapes() -> None:
    shapes = ShapeRange((1, 4, 32, 32), (2, 4, 64, 64), (16, 4, 128, 128))
    assert shapes.holds((16, 4, 128, 32))
    assert not shapes.holds((17, 4, 64, 64))
    assert not shapes.holds((1, 4, 31, 64))
    assert not shapes.holds((1, 4, 64))
