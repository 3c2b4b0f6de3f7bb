"""The benchmark for GPUs, on a machine without one: whatever happens to a contestant is reported.

The whole command runs here too, with this package and diffusers on the CPU, so that its first run
on a GPU does not end at a typo.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import conductor, report
from benchmarks.gpu.contestants import ENTRANTS, Entrant
from benchmarks.gpu.memory import PeakMemory
from benchmarks.gpu.protocol import Case, Job, measure_cases
from engines.cuda_driver import no_gpu_reason
from tests.benchmarks.contestant_stand_in import StandIn
from tests.waiting import PATIENCE

CASES = (Case(64, 1, 3), Case(64, 2, 3), Case(64, 1, 2))
MODULE = "tests.benchmarks.contestant_stand_in"


def _job(kind: str, directory: Path, runs: int = 4) -> Job:
    results = str(directory / f"{kind}.jsonl")
    return Job(kind, "b", "m", "cpu", CASES, runs, 10.0, results, str(directory))


def _conduct(kind: str, directory: Path, timeout: float = PATIENCE) -> dict[str, Any]:
    """Run a stand-in and return what it has left."""
    entrant = Entrant(kind, MODULE, "a stand-in")
    job = _job("", directory)
    ready = conductor.probe(entrant, sys.executable, job, directory)
    assert ready.reason == ""
    conductor.run(ready, job, directory, timeout, lambda: 0)
    left = conductor.collect(directory, kind)
    assert left is not None
    return left


def test_everything_that_a_good_contestant_does_is_kept(tmp_path: Path) -> None:
    left = _conduct("good", tmp_path)
    assert left["ended"] == "done"
    assert 0 < left["opened"] < left["wall"]
    assert [line["case"]["batch"] for line in left["cases"]] == [1, 2, 1]
    assert {len(line["seconds"]) for line in left["cases"]} == {4}
    assert len(left["cases"][0]["stages"]["unet"]) == 3
    assert (tmp_path / "good-64-3.png").exists()


def test_a_case_without_memory_costs_that_case_only(tmp_path: Path) -> None:
    left = _conduct("full", tmp_path)
    assert left["ended"] == "done"
    assert [("error" in line) for line in left["cases"]] == [False, True, False]
    assert left["cases"][1]["error"] == "MemoryError: CUDA out of memory"


@pytest.mark.parametrize("kind", ["crash", "hang"])
def test_what_was_measured_before_a_crash_is_kept(kind: str, tmp_path: Path) -> None:
    """What hangs is ended after several times what a good contestant takes for everything."""
    enough = 2 + 4 * _conduct("good", tmp_path)["wall"]
    left = _conduct(kind, tmp_path, enough)
    ended = {
        "crash": "ended with status 139: Segmentation fault, more or less",
        "hang": f"ended after {enough:.0f} s: it wrote nothing",
    }[kind]
    assert left["ended"] == ended
    assert [line["case"] for line in left["cases"]] == [{"size": 64, "batch": 1, "steps": 3}]
    text = report.render({"gpu": None}, [left], {}, [])
    assert f"- {kind}, 2 cases: {ended}" in text


def test_a_benchmark_that_is_ended_itself_leaves_what_was_measured(tmp_path: Path) -> None:
    _conduct("good", tmp_path)
    for kind in ("good",):
        record = json.loads((tmp_path / f"{kind}.json").read_text())
        record["ended"] = "the benchmark was ended before it"
        (tmp_path / f"{kind}.json").write_text(json.dumps(record))
        lines = (tmp_path / f"{kind}.jsonl").read_text().splitlines()
        (tmp_path / f"{kind}.jsonl").write_text("\n".join([*lines[:2], lines[2][:20]]))
    left = conductor.collect(tmp_path, "good")
    assert left is not None
    assert len(left["cases"]) == 1
    assert "2 cases: the benchmark was ended" in report.render({"gpu": None}, [left], {}, [])


@pytest.mark.parametrize(
    ("kind", "python", "reason"),
    [
        ("absent", sys.executable, "run: pip install it"),
        ("mute", sys.executable, "its probe ended with status 1: ImportError: libcuda"),
        ("good", "/nowhere/python", "there is no Python at /nowhere/python"),
    ],
)
def test_a_contestant_that_cannot_run_says_why(
    kind: str, python: str, reason: str, tmp_path: Path
) -> None:
    ready = conductor.probe(Entrant(kind, MODULE, ""), python, _job("", tmp_path), tmp_path)
    assert ready.reason == reason


def test_each_run_has_a_prompt_of_its_own_and_failures_are_recovered_from(tmp_path: Path) -> None:
    contestant = StandIn(_job("full", tmp_path, runs=3))
    measure_cases(_job("full", tmp_path, runs=3), contestant)
    counted = [prompt for prompt in contestant.prompts if prompt != Job.prompt]
    assert len(set(counted)) == len(counted) == 8
    assert contestant.recovered == 1


def test_percentiles_are_of_the_values_themselves() -> None:
    values = [float(value) for value in range(1, 101)]
    assert report.percentile(values, 0.95) == 95
    assert report.percentile([3.0, 1.0, 2.0], 0.95) == 3
    assert report.percentile([2.0], 0.5) == 2


def test_peak_memory_is_above_what_was_in_use() -> None:
    in_use = iter([100, 150, 400, 120])
    seen: list[int] = []

    def read() -> int:
        seen.append(next(in_use, 100))
        return seen[-1]

    with PeakMemory(read, interval=0.001) as watch:
        while len(seen) < 4:
            pass
    assert watch.peak == 300


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    if no_gpu_reason() is None:
        pytest.skip("there is a GPU")
    assert command.main(["b", "f", "--out", str(tmp_path)]) == 1
    assert "There is no GPU" in capsys.readouterr().out


def test_names_of_contestants_are_checked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        command.main(["b", "f", "--out", str(tmp_path), "--python", "optimun=/usr/bin/python"])
    assert "NAME=PATH" in capsys.readouterr().err


@pytest.mark.usefixtures("capsys")
def test_the_whole_command_on_the_demo(demo_bundle: Path, fused_demo: Path, tmp_path: Path) -> None:
    """This package on the CPU and diffusers make the same picture; the other peers say why not."""
    arguments = [str(demo_bundle), str(fused_demo), "--out", str(tmp_path), "--device", "cpu"]
    arguments += ["--only", "cpu", "cuda", "diffusers", "--sizes", "64", "--batches", "1", "2"]
    assert command.main([*arguments, "--steps", "2", "--runs", "2"]) == 0
    value = json.loads((tmp_path / "gpu.json").read_text())
    rows = [(row["name"], row["batch"], row["runs"]) for row in value["rows"]]
    assert rows == [("cpu", 1, 2), ("cpu", 2, 2), ("diffusers", 1, 2), ("diffusers", 2, 2)]
    for row in value["rows"]:
        assert row["unet"]["calls"] == 2
        assert row["text_encoder"]["calls"] >= 1
        assert row["vae_decoder"]["calls"] >= 1
        assert 0 < row["unet"]["p50"] <= row["unet"]["p95"]
    assert [each["psnr"] > 38 for each in value["pictures"]] == [True]
    assert list(value["absent"]) == ["cuda"]
    text = (tmp_path / "gpu.md").read_text()
    assert text.startswith("# Without a GPU: a trial of the harness")
    assert "- cuda: The backend cuda cannot be used" in text


def test_every_entrant_has_a_name_of_its_own() -> None:
    assert len({entrant.name for entrant in ENTRANTS}) == len(ENTRANTS)
