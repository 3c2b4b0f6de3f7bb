"""`convert build` as the user types it, with TensorRT for RTX itself and no GPU."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convert.__main__ import main
from engines import layout
from engines.bundle import open_bundle
from engines.errors import BundleError
from engines.manifest import FileEntry, write_manifest
from engines.plan_sets import find_plans, open_plans
from tests.convert.plans import held_build
from tests.waiting import PATIENCE, wait_until

pytest.importorskip("tensorrt_rtx")

RTX = ("--backend", "tensorrt-rtx")
QUICK = (*RTX, "--target", "sm89", "--size", "64x64")
PROGRAM = (sys.executable, "-m", "convert")


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle of its own, whose plans take seconds."""
    return shutil.copytree(tiny_bundle, tmp_path / "tiny")


def _convert(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    """The --json result of a command that has to succeed."""
    status = main([*map(str, arguments), "--json", "-q"])
    out = capsys.readouterr().out
    assert status == 0, out
    return json.loads(out)


def test_the_demo_for_a_mixed_fleet(
    demo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "demo"
    shutil.copytree(demo_bundle, bundle)
    result = _convert(capsys, "build", bundle, *RTX, "--target", "sm120,sm86,sm89")
    assert result["targets"] == ["sm86", "sm89", "sm120"]
    assert not result["skipped"]
    opened = open_bundle(bundle)
    for target in result["targets"]:
        plans = open_plans(opened, "tensorrt-rtx", target)
        assert str(plans.path) == result["out"]
    assert list(plans.content.components) == list(layout.COMPONENTS)
    for name, plan in plans.content.components.items():
        assert plan.size == plans.file(name).stat().st_size > opened.weights_size(name) / 2
        assert not plan.stripped
        cost = result["components"][name]
        assert 0.1 < cost["seconds"] < 300
        assert 200e6 < cost["peak_bytes"] < 2e9
    own, every = plans.content.components["unet"].profiles
    assert own["sample"].min == (1, 4, 16, 16)
    assert own["sample"].max == (16, 4, 16, 16)
    assert every["sample"].min == (1, 4, 8, 8)
    assert every["sample"].max == (16, 4, 32, 32)
    assert every["encoder_hidden_states"].max == (16, 308, 96)
    assert sorted(path.name for path in plans.path.iterdir()) == [
        "plans.json",
        *sorted(f"{name}.plan" for name in layout.COMPONENTS),
    ]
    assert [path.name for path in plans.path.parent.iterdir()] == [plans.path.name]


def test_what_is_there_is_skipped_and_what_changed_is_built(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = _convert(capsys, "build", bundle, *QUICK)
    plan = Path(first["out"]) / "unet.plan"
    written = plan.stat().st_mtime_ns
    again = _convert(capsys, "build", bundle, *QUICK)
    assert again["skipped"]
    assert again["identity"] == first["identity"]
    assert plan.stat().st_mtime_ns == written

    with plan.open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    assert not _convert(capsys, "build", bundle, *QUICK)["skipped"]

    other = _convert(capsys, "build", bundle, *QUICK, "--batch", "1:2")
    assert not other["skipped"]
    assert other["identity"] != first["identity"]
    assert other["out"] == first["out"]
    assert not _convert(capsys, "build", bundle, *QUICK, "--batch", "1:2", "--force")["skipped"]


def test_a_changed_graph_makes_plans_stale_until_they_are_built_again(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _convert(capsys, "build", bundle, *QUICK)
    data = bundle / "vae_decoder" / layout.GRAPH_DATA_FILE
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    assert main(["build", str(bundle), *QUICK, "--force", "-q"]) == 1
    assert "vae_decoder/model.onnx_data has another content" in capsys.readouterr().err

    _accept(bundle, data)
    with pytest.raises(BundleError, match="another graph than the bundle's vae_decoder") as error:
        open_plans(open_bundle(bundle), "tensorrt-rtx", "sm89")
    command = str(error.value).partition("Run: convert ")[2].split()
    assert command == ["build", str(bundle), *QUICK]
    assert not _convert(capsys, *command)["skipped"]
    open_plans(open_bundle(bundle), "tensorrt-rtx", "sm89")


def _accept(bundle: Path, file: Path) -> None:
    """Make the file, as it is now, part of the bundle."""
    from engines.identity import sha256_file

    opened = open_bundle(bundle)
    name = file.relative_to(bundle).as_posix()
    entry = FileEntry(file.stat().st_size, sha256_file(file))
    manifest = replace(opened.manifest, files={**opened.manifest.files, name: entry})
    write_manifest(manifest, bundle / layout.BUNDLE_FILE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_build_leaves_nothing(bundle: Path, number: signal.Signals) -> None:
    command = (sys.executable, "-m", held_build.__name__, "build", str(bundle), *QUICK, "-q")
    engines = bundle / layout.ENGINES_DIRECTORY
    held = str(held_build.held_file(Path(".*.partial-*") / layout.plan_file("unet")))
    with subprocess.Popen(command) as process:
        try:
            wait_until(lambda: process.poll() is not None or any(engines.glob(held)), every=0.02)
            process.send_signal(number)
            status = process.wait(PATIENCE)
        finally:
            process.kill()
    assert status == (-number if number == signal.SIGKILL else 128 + number)
    assert find_plans(open_bundle(bundle)) == []
    if number == signal.SIGKILL:
        assert main(["build", str(bundle), *QUICK, "-q"]) == 0
        assert [path.name for path in engines.iterdir()] == ["tensorrt-rtx-sm89"]
    else:
        assert list(engines.iterdir()) == []
    wait_until(lambda: not _writes_under(bundle), every=0.02)


def _writes_under(bundle: Path) -> bool:
    """Whether a process has a file open in the bundle."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(link.readlink()).startswith(str(bundle)):
                return True
        except OSError:
            continue
    return False


def test_too_little_memory(bundle: Path) -> None:
    limited = f"ulimit -v 600000; exec {' '.join(PROGRAM)} build {bundle} {' '.join(QUICK)} -q"
    result = subprocess.run(
        ["bash", "-c", limited], capture_output=True, text=True, check=False, env=_one_thread()
    )
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if "error" in line]
    assert "The memory did not suffice to build the" in line or "for want of memory" in line
    assert list((bundle / layout.ENGINES_DIRECTORY).iterdir()) == []


def _one_thread() -> dict[str, str]:
    """Every thread reserves address space, of which there is little here."""
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def test_a_target_that_is_not_there(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(bundle), *RTX, "--target", "sm90"]) == 1
    assert "does not build for sm90 (H100, H200)" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["build", str(bundle), *RTX, "--target", "ada"])
    assert "argument --target: The target 'ada'" in capsys.readouterr().err


def test_what_is_fp32_stays_so_and_that_is_said(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", str(bundle), *QUICK, "--json"]) == 0
    assert "unet, vae_encoder, vae_decoder: float32 in the bundle" in capsys.readouterr().err


def test_two_at_once(bundle: Path) -> None:
    command = [*PROGRAM, "build", str(bundle), *QUICK, "--json", "-q"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda p=p: results.append(json.loads(p.communicate()[0])))
        for p in processes
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result["skipped"] for result in results) == [False, True]
