"""Whatever ends a command, and wherever: what is at its place is whole, and the next run succeeds.

The commands are real and so is the model, which is the smallest of its family; only the tracing of
its graphs, which writes nothing, is skipped.
"""

import os
import random
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from convert.fuse_record import read_record
from convert.hashing import find_changed
from convert.parity import has_passed
from engines import layout
from engines.bundle import open_bundle, verify_hashes
from engines.manifest import read_manifest, write_manifest
from tests.convert.stage_process import Job, Outcome, Stages, open_stages
from tests.convert.tiny_model import write_tiny_lora

STAGES = ("fuse", "export", "verify", "all")
KILLS = {"fuse": 4, "export": 3, "verify": 1, "all": 2}
"""How many steps of each stage, beside the last ones, are tried; all of them take minutes."""
FEWEST_STEPS = {"fuse": 30, "export": 50, "verify": 6, "all": 90}
LAST_STEPS = 3
"""The last steps are those that publish."""


@dataclass(frozen=True)
class Workshop:
    """Two versions of everything, which differ in a preset, and a place to make one of them in."""

    stages: Stages
    directory: Path
    place: Path
    graphs: Path

    def recipe(self, version: str) -> Path:
        return self.directory / f"{version}.toml"

    def job(self, stage: str, version: str = "new") -> Job:
        made, out = self.directory / version, str(self.place / "out")
        fused = str(made / "out.fused")
        recipe = ["--recipe", str(self.recipe(version))]
        arguments = {
            "fuse": ["fuse", *recipe, "--out", f"{out}.fused", "--dtype", "fp32", "--force"],
            "export": ["export", fused, "--out", out, "--dtype", "fp32", "--force"],
            "verify": ["verify", out, "--against", fused, "--pictures", "0"],
            "all": ["all", *recipe, "--out", out, "--pictures", "0"],
        }
        return Job(
            [*arguments[stage], "--quiet"],
            str(self.place),
            str(self.directory / "messages"),
            str(self.graphs),
        )

    def run(self, stage: str, version: str = "new") -> Outcome:
        outcome = self.stages.run(self.job(stage, version))
        assert outcome.status == 0, outcome.messages
        return outcome

    def prepare(self, stage: str, *, old: bool) -> None:
        """Clear the place; put there what the stage needs, and with `old` an older output."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir()
        outputs = {"fuse": ("out.fused",), "export": ("out",), "all": ("out", "out.fused")}
        if stage == "verify":
            shutil.copytree(self.directory / "new" / "out", self.place / "out")
            path = self.place / "out" / layout.BUNDLE_FILE
            write_manifest(replace(read_manifest(path), parity={}), path)
        elif old:
            for name in outputs[stage]:
                shutil.copytree(self.directory / "old" / name, self.place / name)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.place.iterdir())

    def identities(self) -> dict[str, str]:
        """What is at the place, by name; an output that opens and is not whole is a failure."""
        found = {}
        for path in self.place.iterdir():
            if (path / layout.FUSE_FILE).is_file() and not path.name.startswith("."):
                record = read_record(path / layout.FUSE_FILE)
                assert find_changed(path, record.files, progress=False) == {}
                found[path.name] = record.identity
            elif not path.name.startswith("."):
                bundle = open_bundle(path)
                verify_hashes(bundle)
                assert bundle.manifest.components.keys() == layout.COMPONENTS.keys()
                assert not bundle.manifest.parity or has_passed(bundle.manifest)
                found[path.name] = bundle.manifest.identity
        return found


@pytest.fixture(scope="module")
def workshop(
    tiny_model: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workshop]:
    directory = tmp_path_factory.mktemp("workshop")
    write_tiny_lora(directory / "lora.safetensors")
    with open_stages() as stages:
        for version in ("old", "new"):
            # At weight 0 the fused model is the one whose graphs there are.
            (directory / f"{version}.toml").write_text(
                f'name = "tiny"\nbase = "{tiny_model}"\n[export]\ndtype = "fp32"\n'
                f'[[loras]]\nname = "l"\nsource = "lora.safetensors"\nweight = 0.0\n'
                f'[presets.look]\nbefore = "{version}"\n'
            )
            workshop = Workshop(stages, directory, directory / version, tiny_bundle)
            workshop.place.mkdir()
            workshop.run("all", version)
        yield replace(workshop, place=directory / "place")


def _choose_step(stage: str, steps: int, turn: int) -> int:
    """One of the last steps of a stage, and then a seeded choice of the others."""
    if turn < LAST_STEPS:
        return steps - turn
    return random.Random(f"{stage} {turn}").randrange(1, steps - LAST_STEPS)


@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_any_step(workshop: Workshop, stage: str) -> None:
    """In turn where there was nothing and where there was an older output."""
    wholes = []
    for old in (False, True):
        workshop.prepare(stage, old=old)
        before = workshop.identities()
        steps = workshop.run(stage).steps
        wholes.append((old, before, workshop.identities(), workshop.names(), steps))
    count = KILLS[stage] + LAST_STEPS
    for turn in range(count):
        old, before, after, names, steps = wholes[turn % 2]
        step = _choose_step(stage, steps, turn)
        workshop.prepare(stage, old=old)
        job = replace(workshop.job(stage), at=step, signal=signal.SIGKILL)
        assert workshop.stages.run(job).status == -signal.SIGKILL
        for name, identity in workshop.identities().items():
            assert identity in (before.get(name), after[name])
        workshop.run(stage)
        assert workshop.identities() == after
        assert workshop.names() == names
        assert not list(workshop.place.rglob(".*"))


@pytest.mark.parametrize("size", [20_000, 400_000])
@pytest.mark.parametrize("stage", ["fuse", "export"])
def test_killed_in_the_middle_of_a_file(workshop: Workshop, stage: str, size: int) -> None:
    workshop.prepare(stage, old=True)
    before = workshop.identities()
    killed = workshop.stages.run(replace(workshop.job(stage), file_size=size, is_fatal=True))
    assert killed.status == -signal.SIGXFSZ
    assert workshop.identities() == before
    workshop.run(stage)
    assert workshop.names() == list(before)


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
@pytest.mark.parametrize("stage", STAGES)
def test_stopped_at_any_step(
    workshop: Workshop, stage: str, number: int, status: int, word: str
) -> None:
    workshop.prepare(stage, old=True)
    before, names = workshop.identities(), workshop.names()
    step = random.Random(f"{stage} {number}").randrange(2, FEWEST_STEPS[stage])
    stopped = workshop.stages.run(replace(workshop.job(stage), at=step, signal=number))
    assert (stopped.status, stopped.messages) == (status, f"convert: {word}\n")
    assert workshop.names() == names
    assert not list(workshop.place.rglob(".*"))
    if stage != "all":  # of which the first stages may be done
        assert workshop.identities() == before


@pytest.mark.parametrize("size", [20_000, 400_000])
@pytest.mark.parametrize("stage", ["fuse", "export", "all"])
def test_file_that_is_too_large(workshop: Workshop, stage: str, size: int) -> None:
    workshop.prepare(stage, old=True)
    before, names = workshop.identities(), workshop.names()
    failed = workshop.stages.run(replace(workshop.job(stage), file_size=size))
    assert failed.status == 1
    assert re.fullmatch(r"convert: error: Cannot write .*larger than .*\n", failed.messages)
    assert (workshop.identities(), workshop.names()) == (before, names)


@pytest.fixture
def small_disk(workshop: Workshop) -> Iterator[Callable[[int], None]]:
    """Makes the place a disk of a number of KiB."""
    place = workshop.place

    def mount(size: int) -> None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(place)]
        if (
            os.getuid()
            or not shutil.which("mount")
            or subprocess.run(command, check=False).returncode
        ):
            pytest.skip("a small disk can be mounted by root only")

    yield mount
    if place.is_mount():
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("size", [4, 1500])
@pytest.mark.parametrize("stage", ["fuse", "export", "all"])
def test_full_disk(
    workshop: Workshop, small_disk: Callable[[int], None], stage: str, size: int
) -> None:
    small_disk(size)
    failed = workshop.stages.run(workshop.job(stage))
    assert failed.status == 1
    assert re.fullmatch(r"convert: error: Cannot write .*disk is full.*\n", failed.messages)
    assert workshop.names() == []


@pytest.mark.parametrize("stage", ["fuse", "export", "all"])
def test_two_at_once(workshop: Workshop, stage: str) -> None:
    """The one waits for the other; with different inputs, the output is one of the two."""
    for _ in range(2):
        workshop.prepare(stage, old=False)
        jobs = [
            replace(
                workshop.job(stage, version), messages=str(workshop.directory / f"{version}.log")
            )
            for version in ("old", "new")
        ]
        started = [(workshop.stages.start(job), job) for job in jobs]
        for pid, job in started:
            outcome = workshop.stages.wait(pid, job)
            assert outcome.status == 0, outcome.messages
        alone = [
            replace(workshop, place=workshop.directory / version).identities()
            for version in ("old", "new")
        ]
        together = workshop.identities()
        assert together in [{name: of[name] for name in together} for of in alone]
        assert not list(workshop.place.rglob(".*"))


def test_two_at_once_where_nothing_may_be_replaced(workshop: Workshop) -> None:
    workshop.prepare("fuse", old=False)
    job = workshop.job("fuse")
    job = replace(job, arguments=[word for word in job.arguments if word != "--force"])
    jobs = [replace(job, messages=str(workshop.directory / f"log{i}")) for i in range(2)]
    started = [(workshop.stages.start(job), job) for job in jobs]
    outcomes = [workshop.stages.wait(pid, job) for pid, job in started]
    assert sorted(outcome.status for outcome in outcomes) == [0, 1]
    assert "exists already. Add --force" in next(o.messages for o in outcomes if o.status)
    assert workshop.names() == ["out.fused"]


@pytest.mark.parametrize("kind", ["base", "lora"])
def test_input_that_changes_between_hashing_and_reading(workshop: Workshop, kind: str) -> None:
    """The first step of a fuse is after all hashing and before all reading."""
    workshop.prepare("fuse", old=True)
    before = workshop.identities()
    copy = workshop.directory / kind
    shutil.rmtree(copy, ignore_errors=True)
    text = workshop.recipe("new").read_text()
    base = Path(text.split('base = "')[1].split('"')[0])
    shutil.copytree(base, copy / "base")
    shutil.copy(workshop.directory / "lora.safetensors", copy)
    text = text.replace(str(base), "base").replace("weight = 0.0", "weight = 1.0")
    (copy / "recipe.toml").write_text(text)
    changed = {
        "base": copy / "base" / "vae" / "diffusion_pytorch_model.safetensors",
        "lora": copy / "lora.safetensors",
    }[kind]
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1
    (copy / "other").write_bytes(content)
    job = workshop.job("fuse")
    job = replace(
        job,
        arguments=[
            str(copy / "recipe.toml") if word == str(workshop.recipe("new")) else word
            for word in job.arguments
        ],
        at=2,
        replaced=str(changed),
        replacement=str(copy / "other"),
    )
    failed = workshop.stages.run(job)
    assert failed.status == 1
    assert f"{changed.name} was changed while it was in use" in failed.messages
    assert workshop.identities() == before
    assert workshop.names() == ["out.fused"]
