"""The benchmark's whole command on the GPU that is here, on the demo."""

import json
from pathlib import Path

import pytest

from benchmarks.gpu import __main__ as command

pytestmark = pytest.mark.gpu


def test_the_whole_command(demo_bundle: Path, fused_demo: Path, tmp_path: Path) -> None:
    """Whatever can run here runs every case, and what cannot says why."""
    arguments = [str(demo_bundle), str(fused_demo), "--out", str(tmp_path)]
    arguments += ["--only", "cuda", "cuda-graph", "ort-tensorrt-rtx", "diffusers"]
    arguments += ["--sizes", "128", "--batches", "1", "2", "--steps", "2", "--runs", "3"]
    if command.main([*arguments, "--preflight"]):
        pytest.skip("none of the contestants can run here")
    assert command.main(arguments) == 0
    value = json.loads((tmp_path / "gpu.json").read_text())
    assert value["machine"]["gpu"]
    for result in value["results"]:
        assert result["ended"] == "done", result
        assert result["peak_gpu_bytes"] is None or result["peak_gpu_bytes"] > 0
        assert not [line for line in result["cases"] if "error" in line]
    assert all(each["psnr"] is None or each["psnr"] > 30 for each in value["pictures"])
