"""What `convert all` does anew and what it skips: fusing is real, export and verify stand in."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from convert.export_plan import ExportPlan
from convert.recipe import ExportOptions, Recipe, RecipeLora
from convert.stages import run_stages
from engines import layout
from engines.bundle import Bundle
from engines.errors import OutputError
from engines.manifest import Manifest, Parity, write_manifest
from engines.publish import publish_directory
from tests.convert.tiny_model import write_tiny_lora


@dataclass
class Chain:
    """A recipe in a directory of its own, and a count of what was done."""

    directory: Path
    recipe: Recipe
    done: list[str] = field(default_factory=list)
    parity_passes: bool = True

    @property
    def bundle(self) -> Path:
        return self.directory / "bundle"

    @property
    def fused(self) -> Path:
        return self.directory / "bundle.fused"

    def run(self, **changes: Any) -> list[str]:
        """Run the chain and say which stages it did not skip."""
        self.done.clear()
        recipe = changes.pop("recipe", self.recipe)
        _, reports = run_stages(recipe, self.bundle, self.fused, progress=False, **changes)
        assert [report.name for report in reports] == ["fuse", "export", "verify"]
        assert [report.name for report in reports if not report.skipped] == self.done
        return list(self.done)


@pytest.fixture
def chain(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chain:
    lora = write_tiny_lora(tmp_path / "lora.safetensors")
    recipe = Recipe(
        name="tiny",
        base=str(tiny_model),
        loras=(RecipeLora("lora", str(lora), 0.6),),
        export=ExportOptions("fp32"),
    )
    chain = Chain(tmp_path, recipe)
    monkeypatch.setattr("convert.fuse.run_fuse", _counted(chain, _real_fuse()))
    monkeypatch.setattr("convert.export.run_export", _stand_in_export(chain))
    monkeypatch.setattr("convert.verify.run_verify", _stand_in_verify(chain))
    return chain


def _real_fuse() -> Callable[..., Any]:
    from convert.fuse import run_fuse

    return run_fuse


def _counted(chain: Chain, function: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*arguments: Any, **options: Any) -> Any:
        chain.done.append("fuse")
        return function(*arguments, **options)

    return counted


def _stand_in_export(chain: Chain) -> Callable[..., Any]:
    def export(plan: ExportPlan, out: Path, *, force: bool, progress: bool) -> Any:
        chain.done.append("export")
        with publish_directory(out, force=force, marker=layout.BUNDLE_FILE) as partial:
            write_manifest(plan.manifest, partial / layout.BUNDLE_FILE)
        return plan.manifest, {}

    return export


def _stand_in_verify(chain: Chain) -> Callable[..., Any]:
    def verify(bundle: Bundle, model: Path, *, progress: bool) -> tuple[Manifest, Any]:
        chain.done.append("verify")
        assert model == chain.fused
        figures = (Parity("out", 0.1, 0.1, 1.0, 0.2, chain.parity_passes),)
        manifest = replace(bundle.manifest, parity=dict.fromkeys(layout.COMPONENTS, figures))
        write_manifest(manifest, bundle.path / layout.BUNDLE_FILE)
        return manifest, {}

    return verify


EVERYTHING = ["fuse", "export", "verify"]


def test_second_run_does_nothing_and_says_so(
    chain: Chain, caplog: pytest.LogCaptureFixture
) -> None:
    assert chain.run() == EVERYTHING
    before = _stamps(chain.directory)
    with caplog.at_level(logging.INFO):
        assert chain.run() == []
    for stage in EVERYTHING:
        assert f"{stage}: up to date" in caplog.messages
    assert _stamps(chain.directory) == before


def _stamps(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()}


def test_changed_lora_rebuilds_everything(chain: Chain) -> None:
    chain.run()
    lora = Path(chain.recipe.loras[0].source)
    content = bytearray(lora.read_bytes())
    content[-1] ^= 1
    lora.write_bytes(content)
    assert chain.run() == EVERYTHING


def test_changed_weight_rebuilds_everything(chain: Chain) -> None:
    chain.run()
    assert chain.run(weights=[0.7]) == EVERYTHING
    assert chain.run(weights=[0.7]) == []
    assert chain.run(weights=[0.7], text_encoder_weights=[0.1]) == EVERYTHING
    assert chain.run() == EVERYTHING


def test_same_files_elsewhere_change_nothing(chain: Chain, tmp_path: Path) -> None:
    chain.run()
    base = shutil.copytree(chain.recipe.base, tmp_path / "elsewhere" / "model")
    source = chain.recipe.loras[0].source
    lora = replace(
        chain.recipe.loras[0], source=str(shutil.copy(source, tmp_path / "elsewhere" / "other.bin"))
    )
    assert chain.run(recipe=replace(chain.recipe, base=str(base), loras=(lora,))) == []


def test_other_dtype_rebuilds_the_bundle(chain: Chain) -> None:
    chain.run()
    assert chain.run(dtype="fp16") == EVERYTHING
    assert chain.run(dtype="fp16") == []


def test_other_tools_rebuild_the_bundle_alone(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.run()
    monkeypatch.setattr("convert.export_plan.tool_versions", lambda _: {"onnx": "0.1"})
    assert chain.run() == ["export", "verify"]


@pytest.mark.parametrize(
    ("damaged", "redone"),
    [
        ("bundle.fused/unet/config.json", ["fuse"]),
        ("bundle/bundle.json", ["export", "verify"]),
    ],
)
def test_missing_file_rebuilds_its_stage(chain: Chain, damaged: str, redone: list[str]) -> None:
    chain.run()
    (chain.directory / damaged).unlink()
    if damaged.endswith("bundle.json"):
        (chain.directory / damaged).write_text("{")
    assert chain.run() == redone


def test_failed_verification_is_repeated(chain: Chain) -> None:
    chain.parity_passes = False
    assert chain.run() == EVERYTHING
    assert chain.run() == ["verify"]


@pytest.mark.parametrize("place", ["bundle", "bundle.fused"])
def test_foreign_directory_is_never_replaced(chain: Chain, place: str) -> None:
    foreign = chain.directory / place / "letter.txt"
    foreign.parent.mkdir()
    foreign.write_text("dear")
    with pytest.raises(OutputError, match="left untouched"):
        chain.run()
    assert foreign.read_text() == "dear"
    assert chain.done == []
