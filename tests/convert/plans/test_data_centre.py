"""Builds with data-centre TensorRT, on a stand-in that records what the real module would get."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convert.__main__ import build_parser
from convert.commands.build_arguments import build_options, build_ranges, command_arguments
from convert.plans.build import run_build
from convert.plans.job import BuildJob, plan_build
from engines.bundle import Bundle
from engines.cuda_driver import Driver, Gpu
from engines.errors import BackendError, MissingExtraError, SettingError
from engines.plan_sets import find_plans, open_plans
from engines.plans import PlanSet
from tests.convert.plans.bundles import write_bundle

STAND_IN = "tests.convert.plans.recording_tensorrt"
L4 = Gpu("NVIDIA L4", (8, 9), 24 << 30)
T4 = Gpu("Tesla T4", (7, 5), 16 << 30)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture(autouse=True)
def l4(monkeypatch: pytest.MonkeyPatch) -> None:
    _give_gpu(monkeypatch, L4)


def _give_gpu(monkeypatch: pytest.MonkeyPatch, gpu: Gpu) -> None:
    monkeypatch.setattr("convert.plans.job.probe_driver", lambda: Driver((13, 0), (gpu,)))


def _job(bundle: Bundle, *arguments: str, module: str = STAND_IN) -> BuildJob:
    """What `convert build --backend tensorrt ARGUMENTS` plans, but with the stand-in."""
    line = ["build", str(bundle.path), "--backend", "tensorrt", *arguments]
    options = build_parser().parse_args(line)
    return plan_build(
        bundle,
        options.backend,
        options.target,
        build_ranges(options, bundle.manifest),
        build_options(options),
        command_arguments(options),
        module=module,
    )


def _build(bundle: Bundle, *arguments: str) -> tuple[PlanSet, dict[str, Any]]:
    """Build, and return plans.json's content and what TensorRT was told for the UNet."""
    job = _job(bundle, *arguments)
    content, _ = run_build(job, progress=False)
    return content, json.loads((job.directory / "unet.plan").read_text())


def test_defaults(bundle: Bundle) -> None:
    content, told = _build(bundle)
    assert told["flags"] == []
    assert told["typed_by"] == 0
    assert told["pools"] == {}
    assert told["optimization_level"] is None
    assert told["hardware"] is None
    assert [profile["sample"] for profile in told["profiles"]] == [
        [[1, 4, 64, 64], [2, 4, 64, 64], [16, 4, 64, 64]],
        [[1, 4, 32, 32], [2, 4, 64, 64], [16, 4, 128, 128]],
    ]
    assert (content.targets, content.gpu) == (("sm89",), "NVIDIA L4")
    assert content.library_version == "11.4.0.106"
    opened = open_plans(bundle, "tensorrt", "sm89")
    assert opened.path.name == "tensorrt-sm89"
    assert opened.content == content
    assert set(content.components) == {"text_encoder", "unet", "vae_encoder", "vae_decoder"}


@pytest.mark.parametrize(
    ("arguments", "key", "value"),
    [
        (["--strip"], "flags", ["STRIP_PLAN", "REFIT_IDENTICAL"]),
        (["--weight-streaming"], "flags", ["WEIGHT_STREAMING"]),
        (["--version-compatible"], "flags", ["VERSION_COMPATIBLE"]),
        (["--batch-invariant"], "flags", ["DISTRIBUTIVE_INDEPENDENCE"]),
        (["--workspace", "2048"], "pools", {"WORKSPACE": 2 << 30}),
        (["--optimization-level", "5"], "optimization_level", 5),
        (["--optimization-level", "0"], "optimization_level", 0),
        (["--hardware-compatibility", "ampere-plus"], "hardware", "AMPERE_PLUS"),
        (
            ["--hardware-compatibility", "same-compute-capability"],
            "hardware",
            "SAME_COMPUTE_CAPABILITY",
        ),
    ],
)
def test_every_option_reaches_tensorrt(
    bundle: Bundle, arguments: list[str], key: str, value: object
) -> None:
    plain, told_plain = _build(bundle)
    content, told = _build(bundle, *arguments)
    assert told[key] == value
    assert told_plain[key] != value
    assert content.identity != plain.identity
    assert content.arguments == ("--backend", "tensorrt", *arguments)


def test_stripped_plans_say_so(bundle: Bundle) -> None:
    content, _ = _build(bundle, "--strip")
    assert all(plan.stripped for plan in content.components.values())
    content, _ = _build(bundle)
    assert not any(plan.stripped for plan in content.components.values())


def test_batch_invariance_has_one_profile(bundle: Bundle) -> None:
    _, told = _build(bundle, "--batch-invariant")
    assert len(told["profiles"]) == 1
    with pytest.raises(SettingError, match="--batch-invariant allows one --size, not 2"):
        _job(bundle, "--batch-invariant", "--size", "512x512", "--size", "768x768")


def test_arguments_are_quoted_as_they_were_given(bundle: Bundle) -> None:
    arguments = [
        *("--target", "sm89", "--size", "512x512", "--size", "512x512:768x768"),
        *("--batch", "1:8", "--chunks", "2", "--optimization-level", "2", "--workspace", "512"),
        *("--hardware-compatibility", "ampere-plus", "--weight-streaming", "--strip"),
    ]
    job = _job(bundle, *arguments)
    assert job.content.arguments == ("--backend", "tensorrt", *arguments)


def test_the_timing_cache_is_kept_beside_the_bundle(bundle: Bundle) -> None:
    cache = bundle.path.parent / "bundle.tensorrt-sm89.timings"
    _build(bundle)
    assert cache.read_bytes() == b"TTTT"
    _build(bundle)
    assert cache.read_bytes() == b"TTTTTTTT"


def test_a_foreign_timing_cache_is_said_and_made_anew(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    cache = bundle.path.parent / "bundle.tensorrt-sm89.timings"
    cache.write_bytes(b"foreign")
    with caplog.at_level(logging.WARNING):
        _build(bundle)
    assert "was not made by this TensorRT on this GPU" in caplog.text
    assert cache.read_bytes() == b"TTTT"


def test_warnings_of_tensorrt_are_passed_on(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        _build(bundle)
    assert "unet: a warning of the stand-in" in caplog.text


def test_it_builds_for_the_gpu_that_is_here(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _job(bundle, "--target", "sm89").content.targets == ("sm89",)
    with pytest.raises(SettingError, match=r"NVIDIA L4 \(sm89\), and not for sm90"):
        _job(bundle, "--target", "sm90")
    with pytest.raises(SettingError, match="and not for sm89, sm90"):
        _job(bundle, "--target", "sm89,sm90")
    before = _job(bundle).content.identity
    _give_gpu(monkeypatch, replace(L4, name="NVIDIA GeForce RTX 4090"))
    assert _job(bundle).content.identity != before
    _give_gpu(monkeypatch, T4)
    with pytest.raises(SettingError, match=r"ampere-plus needs an Ampere GPU .* Tesla T4 is sm75"):
        _job(bundle, "--hardware-compatibility", "ampere-plus")


def test_no_gpu(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Driver:
        raise BackendError("there is no driver")

    monkeypatch.setattr("convert.plans.job.probe_driver", fail)
    with pytest.raises(BackendError, match=r"but there is no driver.*tensorrt-rtx builds on any"):
        _job(bundle)


def test_not_installed(bundle: Bundle) -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'fracture-sd\[tensorrt\]'"):
        _job(bundle, module="tensorrt_that_nobody_has")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("SIGKILL", "The memory did not suffice to build the unet"),
        ("SIGSEGV", r"builder crashed on the unet \(signal SIGSEGV\)"),
    ],
)
def test_a_builder_that_dies(tmp_path: Path, name: str, message: str) -> None:
    bundle = write_bundle(tmp_path / "bundle", contents={"unet": name.encode()})
    job = _job(bundle)
    with pytest.raises(BackendError, match=message):
        run_build(job, progress=False)
    assert find_plans(bundle) == []
    assert list((bundle.path / "engines").iterdir()) == []
