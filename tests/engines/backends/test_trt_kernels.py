"""The kernels that TensorRT for RTX compiles are kept, on a stand-in GPU."""

from dataclasses import replace
from pathlib import Path

import pytest

from engines import layout
from engines.backends.trt_kernels import kernel_file
from engines.bundle import Bundle
from tests.engines.backends.stand_in_plans import (
    DRIVER,
    StandInMachine,
    open_unet,
    run_and_compare,
)
from tests.engines.backends.tiny_bundle import feeds


def test_compiled_kernels_are_kept(bundle: Bundle, machine: StandInMachine, cache: Path) -> None:
    with open_unet(machine, bundle, "tensorrt-rtx") as session:
        for shape in ((1, 8, 8), (2, 16, 16)):
            run_and_compare(session, feeds(*shape))
    compiled = machine.modules["tensorrt_rtx"].compiled
    assert len(compiled) == 2
    (file,) = (cache / "kernels").glob("[!.]*")
    before = file.stat().st_ino
    with machine.backend("tensorrt-rtx").open_session(bundle, layout.UNET) as session:
        run_and_compare(session, feeds(2, 16, 16))
        assert len(compiled) == 2, "nothing is compiled twice"
        assert file.stat().st_ino == before, "nothing is written in vain"
        run_and_compare(session, feeds(1, 16, 16))
    assert len(compiled) == 3
    file.write_bytes(b"damaged")
    with machine.backend("tensorrt-rtx").open_session(bundle, layout.UNET) as session:
        run_and_compare(session, feeds(2, 16, 16))
    assert len(compiled) == 4


def test_kernels_are_of_one_plan_gpu_driver_and_library(cache: Path) -> None:
    other = replace(DRIVER.gpus[0], name="another")
    files = {
        kernel_file(driver, version, plan)
        for driver in (DRIVER, replace(DRIVER, cuda=(13, 1)), replace(DRIVER, gpus=(other,)))
        for version in ("1.7", "1.8")
        for plan in ("0" * 64, "1" * 64)
    }
    assert len(files) == 12
    assert {file.parent for file in files} == {cache / "kernels"}


def test_a_cache_that_cannot_be_written_only_costs_time(
    bundle: Bundle, machine: StandInMachine, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file where the directory should be")
    with open_unet(machine, bundle, "tensorrt-rtx") as session:
        run_and_compare(session, feeds(1, 8, 8))
    assert "Compiled kernels cannot be kept" in caplog.text
