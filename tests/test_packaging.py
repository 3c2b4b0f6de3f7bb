"""What is installed, and what it needs: the lean runtime without torch, the wheel's content."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "runtime" / "server" / "page"


def _walled(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.wall", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wall_stands() -> None:
    """Without this, every test behind the wall would pass by accident."""
    refused = _walled("convert", "--help")
    assert refused.returncode != 0
    assert "convert is behind the wall" in refused.stderr


def test_every_module_of_the_runtime_imports_without_torch() -> None:
    imported = _walled("tests.import_everything")
    assert imported.returncode == 0, imported.stderr
    assert int(imported.stdout) > 20


@pytest.mark.parametrize("command", [[], ["generate"], ["info"], ["serve"]])
def test_the_runtimes_help_needs_no_torch(command: list[str]) -> None:
    shown = _walled("runtime", *command, "--help")
    assert shown.returncode == 0, shown.stderr
    assert "usage: runtime" in shown.stdout


@pytest.mark.parametrize("command", ["fuse", "export", "verify", "all", "inspect"])
def test_the_converters_help_loads_nothing_heavy(command: str) -> None:
    program = (
        "import sys; from convert.__main__ import build_parser\n"
        f"try: build_parser().parse_args([{command!r}, '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'onnx', 'onnxruntime'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert f"usage: convert {command}" in shown.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as `python -m build` makes it."""
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = out.glob("*.whl")
    return path


def test_the_wheel_holds_the_three_packages_and_their_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    roots = {name.partition("/")[0] for name in names}
    assert {root for root in roots if not root.endswith(".dist-info")} == {
        "convert",
        "engines",
        "runtime",
    }
    assert {
        "convert/recipes/cracked-skin.toml",
        "convert/recipes/demo.toml",
        "convert/py.typed",
        "engines/py.typed",
        "runtime/py.typed",
        *(f"runtime/server/page/{path.name}" for path in PAGE.iterdir()),
    } <= set(names)
    licences = {Path(name).name for name in names if "/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}


def test_the_wheel_installs_both_programs(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (entry,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    text = archive.read(entry).decode()
    assert "convert = convert.__main__:main" in text
    assert "runtime = runtime.__main__:main" in text


def test_the_lean_dependencies_are_few(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (entry,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    lines = archive.read(entry).decode().splitlines()
    needed = [
        line.removeprefix("Requires-Dist: ")
        for line in lines
        if line.startswith("Requires-Dist: ") and "extra ==" not in line
    ]
    assert sorted(line.split("<")[0].split(">")[0].strip() for line in needed) == [
        "numpy",
        "pillow",
        "tokenizers",
        "tqdm",
    ]
