"""Bundles with plans for the GPU that is here."""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engines.backend import Backend, choose_backend
from engines.bundle import open_bundle
from engines.cuda_driver import probe_driver
from engines.errors import BackendError
from engines.plans import PLAN_BACKENDS, TENSORRT_RTX, target_name

Planned = Callable[..., Path]


@pytest.fixture(scope="session")
def planned(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Planned:
    """A function from a backend's name to a copy of the demo's bundle that it can run.

    Plans are built by `convert build`, once for each set of arguments; the test is skipped where
    the backend's package is missing or does not know this GPU.
    """
    known: dict[tuple[str, ...], Path] = {}

    def build(backend: str, *arguments: str) -> Path:
        if backend not in PLAN_BACKENDS:
            return demo_bundle
        module = backend.replace("-", "_")
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
        key = (backend, *arguments)
        if key not in known:
            path = tmp_path_factory.mktemp("planned") / "demo"
            shutil.copytree(demo_bundle, path)
            target = target_name(*probe_driver().gpus[0].capability)
            where = ("--target", target) if backend == TENSORRT_RTX else ()
            command = ["-m", "convert", "build", str(path), "--backend", backend, *where]
            process = subprocess.run(
                [sys.executable, *command, *arguments, "-q"],
                capture_output=True,
                text=True,
                check=False,
            )
            if process.returncode and "target" in process.stderr and backend == TENSORRT_RTX:
                pytest.skip(process.stderr.strip())
            assert process.returncode == 0, process.stderr
            known[key] = path
        return known[key]

    return build


@pytest.fixture
def usable() -> Callable[[str, Path], Backend]:
    """A function from a backend's name and a bundle to the backend; a skip where it cannot run."""

    def take(name: str, path: Path) -> Backend:
        try:
            return choose_backend(name, open_bundle(path)).backend
        except BackendError as error:
            pytest.skip(str(error))

    return take
