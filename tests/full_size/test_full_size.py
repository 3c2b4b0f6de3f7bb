"""Full-size Stable Diffusion 1.5 through the whole chain, each stage in a process of its own.

It prints the seconds and the peak memory of each stage.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engines import layout
from engines.bundle import Bundle, open_bundle
from engines.plan_sets import open_plans
from tests.full_size.model import write_full_size_lora, write_full_size_model

pytestmark = pytest.mark.full_size

GIGABYTE = 1_000_000_000
PEAKS = {"fuse": 1.5, "export": 2.0, "build": 8.0, "generate": 10.0}
"""Gigabytes of resident memory that each stage may take."""
PLAN_OVERHEAD = 0.1
"""Gigabytes that a plan may take beyond its weights, for three architectures together."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A place for some 7 GB, emptied afterwards."""
    path = tmp_path_factory.mktemp("full-size")
    yield path
    shutil.rmtree(path)


# A process starts with the peak of the one that started it, so a small one stands between.
_LAUNCHER = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[2:]).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
open(sys.argv[1], "w").write(str(peak))
sys.exit(status)
"""


class Chain:
    """Runs commands and keeps what each cost."""

    def __init__(self, directory: Path) -> None:
        self.costs: dict[str, tuple[float, int]] = {}
        self._peak_file = directory / "peak"

    def run(self, stage: str, *arguments: str) -> Any:
        """Run `python -m ARGUMENTS`, and return its --json result."""
        command = [sys.executable, "-m", *arguments, "--json", "-q"]
        started = time.perf_counter()
        process = subprocess.run(
            [sys.executable, "-c", _LAUNCHER, str(self._peak_file), *command],
            stdout=subprocess.PIPE,
            check=False,
        )
        seconds = time.perf_counter() - started
        self.costs[stage] = seconds, int(self._peak_file.read_text())
        assert process.returncode == 0, process.stdout.decode()
        return json.loads(process.stdout)


@pytest.fixture
def chain(directory: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Chain]:
    """A chain whose costs are printed in any case."""
    chain = Chain(directory)
    yield chain
    with capsys.disabled():
        for stage, (seconds, peak) in chain.costs.items():
            sys.stdout.write(
                f"\nfull size, {stage}: {seconds:.0f} s, {peak / GIGABYTE:.2f} GB peak"
            )


def test_full_size_model_goes_through_the_chain(directory: Path, chain: Chain) -> None:
    base = write_full_size_model(directory / "base")
    loras = [write_full_size_lora(directory / f"lora-{i}.safetensors", i) for i in range(2)]
    fused, bundle_path, picture_path = (directory / n for n in ("fused", "bundle", "out.png"))

    files = [argument for lora in loras for argument in ("--lora", str(lora))]
    record = chain.run(
        "fuse",
        *("convert", "fuse", "--base", str(base), *files),
        *("--weights", "0.6,0.6", "--out", str(fused)),
    )["record"]
    shutil.rmtree(base)
    for lora in record["loras"]:
        assert lora["coverage"]["unet"]["touched"] == 192
        assert lora["coverage"]["text_encoder"]["touched"] == 72

    chain.run("export", "convert", "export", str(fused), "--out", str(bundle_path))
    shutil.rmtree(fused)
    bundle = open_bundle(bundle_path)
    assert bundle.weights_size(layout.UNET) > 1.7 * GIGABYTE

    _build_plans(bundle, chain)

    chain.run(
        "generate",
        *("runtime", "generate", "a photo of a cat", "--bundle", str(bundle_path)),
        *("--backend", "openvino", "--size", "512x512", "--steps", "2", "--cfg", "7"),
        *("--seed", "1", "--out", str(picture_path)),
    )
    picture = np.asarray(Image.open(picture_path))
    assert picture.shape == (512, 512, 3)
    assert picture.std() > 1  # values that are no numbers come out as one colour

    for stage, (_, peak) in chain.costs.items():
        assert peak < PEAKS[stage] * GIGABYTE


def _build_plans(bundle: Bundle, chain: Chain) -> None:
    """Plans of all four graphs, for three kinds of RTX card and both ranges of sizes."""
    pytest.importorskip("tensorrt_rtx")
    plan_sizes = chain.run(
        "build",
        *("convert", "build", str(bundle.path), "--backend", "tensorrt-rtx"),
        *("--target", "sm86,sm89,sm120"),
    )["components"]
    plans = open_plans(bundle, "tensorrt-rtx", "sm120")
    for name in layout.COMPONENTS:
        weights = bundle.weights_size(name)
        assert weights < plan_sizes[name]["bytes"] < weights + PLAN_OVERHEAD * GIGABYTE
    latents = [profile["sample"] for profile in plans.content.components[layout.UNET].profiles]
    assert [each.min for each in latents] == [(1, 4, 64, 64), (1, 4, 32, 32)]
    assert [each.opt for each in latents] == [(2, 4, 64, 64), (2, 4, 64, 64)]
    assert [each.max for each in latents] == [(16, 4, 64, 64), (16, 4, 128, 128)]
    shutil.rmtree(plans.path)
