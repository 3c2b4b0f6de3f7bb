"""Installed size and import time: the lean runtime against diffusers with torch.

Makes two fresh virtual environments, so it needs a package registry. Run from a checkout:

    python -m benchmarks.footprint

Sizes are of site-packages without pip and setuptools, compiled bytecode included. torch is the
version of constraints.txt in whatever build the registry gives; the result names it. Import times
are whole processes, in turns, with an empty interpreter beside them.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from benchmarks.measure import save, time_in_turns

ROOT = Path(__file__).parent.parent
INSTALLERS = {"pip", "setuptools", "_distutils_hack", "pkg_resources"}
ENVIRONMENTS = {
    "runtime": [f"{ROOT}"],
    "runtime[cpu]": [f"{ROOT}[cpu]"],
    "diffusers": ["diffusers", "transformers", "accelerate", "torch"],
}
IMPORTS = {
    "runtime[cpu]": "import runtime.pipeline, onnxruntime",
    "diffusers": "from diffusers import StableDiffusionPipeline",
}


def main() -> None:
    """Measure both and save the figures."""
    with tempfile.TemporaryDirectory() as scratch:
        pythons, sizes = {}, {}
        for name, requirements in ENVIRONMENTS.items():
            python = _make_environment(Path(scratch) / name, requirements)
            pythons[name], sizes[name] = python, _installed_bytes(python)
        commands = {name: [str(pythons[name]), "-c", code] for name, code in IMPORTS.items()}
        commands["empty interpreter"] = [str(pythons["runtime[cpu]"]), "-c", ""]
        timings = time_in_turns(commands, runs=9)
        torch = _version(pythons["diffusers"], "torch")
    empty = timings["empty interpreter"].median
    ours, theirs = (timings[name].median - empty for name in IMPORTS)
    print(
        save(
            "footprint",
            "python -m benchmarks.footprint",
            {
                "megabytes": {name: round(size / 1e6) for name, size in sizes.items()},
                "size_ratio_runtime": round(sizes["runtime"] / sizes["diffusers"], 3),
                "size_ratio_runtime_cpu": round(sizes["runtime[cpu]"] / sizes["diffusers"], 3),
                "torch_build": torch,
                "import_seconds_runtime": round(ours, 3),
                "import_seconds_diffusers": round(theirs, 3),
                "import_speedup": round(theirs / ours, 1),
            },
            timings,
        )
    )


def _make_environment(path: Path, requirements: list[str]) -> Path:
    """A fresh virtual environment with `requirements`; returns its interpreter."""
    venv.create(path, with_pip=True)
    python = path / "bin" / "python"
    constraints = str(ROOT / "constraints.txt")
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--constraint", constraints, *requirements],
        check=True,
        stdout=sys.stderr,
    )
    return python


def _installed_bytes(python: Path) -> int:
    """Bytes of everything installed in the environment but its installers."""
    (packages,) = python.parent.parent.glob("lib/python*/site-packages")
    return sum(
        file.stat().st_size
        for entry in packages.iterdir()
        if entry.name.partition("-")[0] not in INSTALLERS
        for file in ([entry] if entry.is_file() else entry.rglob("*"))
        if file.is_file() and not file.is_symlink()
    )


def _version(python: Path, distribution: str) -> str:
    code = f"from importlib.metadata import version; print(version({distribution!r}))"
    shown = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return shown.stdout.strip()


if __name__ == "__main__":
    main()
