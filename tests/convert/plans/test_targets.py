"""Architectures that can be built for, and what to do about the others."""

import pytest

from convert.plans.options import (
    AMPERE_PLUS,
    SAME_CAPABILITY,
    BuildOptions,
    check_rtx_options,
)
from convert.plans.targets import RTX_TARGETS, check_rtx_targets, parse_targets
from engines.errors import SettingError


def test_the_targets_are_those_of_tensorrt_for_rtx() -> None:
    real = pytest.importorskip("tensorrt_rtx")
    names = real.ComputeCapability.__members__
    known = {name.lower() for name in names if name.startswith("SM")}
    assert known == set(RTX_TARGETS)


def test_targets_are_sorted_and_each_there_once() -> None:
    assert parse_targets("sm120, sm86,SM86,sm75") == ("sm75", "sm86", "sm120")


@pytest.mark.parametrize("text", ["", "sm", "89", "sm8.9", "sm89,", "ada", "sm86 sm89"])
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(SettingError, match="is no GPU architecture"):
        parse_targets(text)


@pytest.mark.parametrize("target", ["sm90", "sm100", "sm87"])
def test_data_centre_gpus_need_the_other_backend(target: str) -> None:
    check_rtx_targets(RTX_TARGETS)
    with pytest.raises(
        SettingError, match=rf"{target} \(.*Run convert build --backend tensorrt on"
    ):
        check_rtx_targets(["sm89", target])


def test_an_unknown_target() -> None:
    with pytest.raises(SettingError, match=r"not build for sm42; it builds for sm75, .*, sm121\.$"):
        check_rtx_targets(["sm42"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (BuildOptions(hardware_compatibility=AMPERE_PLUS), "Name them with --target"),
        (BuildOptions(hardware_compatibility=SAME_CAPABILITY), "Name them with --target"),
        (BuildOptions(version_compatible=True), "build again after an update"),
        (BuildOptions(strip=True), "build on a machine with an RTX card"),
    ],
)
def test_what_tensorrt_for_rtx_does_not_take(options: BuildOptions, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        check_rtx_options(options, gpu=False)


def test_stripping_works_where_there_is_a_gpu() -> None:
    check_rtx_options(BuildOptions(strip=True), gpu=True)
