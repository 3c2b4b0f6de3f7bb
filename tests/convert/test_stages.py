"""What `convert all` does anew and what it skips: fusing is real, export and verify stand in."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from convert.export_options import ExportOptions
from convert.export_plan import ExportPlan
from convert.model import WEIGHT_FILES
from convert.parity import verification_tools
from convert.recipe import Recipe, RecipeLora
from convert.stages import run_stages
from engines import layout
from engines.bundle import Bundle
from engines.errors import OutputError
from engines.manifest import (
    Defaults,
    FileEntry,
    Manifest,
    Parity,
    PictureParity,
    Preset,
    write_manifest,
)
from engines.publish import publish_directory
from tests.convert.synthetic import Tensors, write_lora
from tests.convert.tiny_model import WIDTH, write_tiny_lora


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
        recipe = replace(recipe, export=changes.pop("export", recipe.export))
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
        files = {"graph": FileEntry(5, sha256(b"graph").hexdigest())}
        manifest = replace(plan.manifest, files=files)
        with publish_directory(out, force=force, marker=layout.BUNDLE_FILE) as partial:
            (partial / "graph").write_bytes(b"graph")
            write_manifest(manifest, partial / layout.BUNDLE_FILE)
        return manifest, {}

    return export


def _stand_in_verify(chain: Chain) -> Callable[..., Any]:
    def verify(
        bundle: Bundle, model: Path, pictures: int, *, progress: bool
    ) -> tuple[Manifest, Any]:
        chain.done.append("verify")
        assert model == chain.fused
        figures = (Parity("out", 0.1, 0.1, 1.0, 0.2, chain.parity_passes),)
        manifest = replace(
            bundle.manifest,
            parity=dict.fromkeys(layout.COMPONENTS, figures),
            pictures=(PICTURE,) * pictures,
            verified_with=verification_tools(),
        )
        write_manifest(manifest, bundle.path / layout.BUNDLE_FILE)
        return manifest, {}

    return verify


PICTURE = PictureParity("a house", 1, 8, 7.0, 16, 16, 90.0, 1.0, 60.0, 0.99, passed=True)
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


def _flip(path: Path) -> None:
    """Change one byte, and leave the size and the time of modification as they were."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_one_byte_of_a_lora_rebuilds_everything(chain: Chain) -> None:
    chain.run()
    _flip(Path(chain.recipe.loras[0].source))
    assert chain.run() == EVERYTHING
    assert chain.run() == []


@pytest.mark.parametrize("file", [*WEIGHT_FILES.values(), "tokenizer/merges.txt"])
def test_one_byte_of_the_base_rebuilds_everything(chain: Chain, file: str, tmp_path: Path) -> None:
    base = shutil.copytree(chain.recipe.base, tmp_path / "base")
    recipe = replace(chain.recipe, base=str(base))
    chain.run(recipe=recipe)
    _flip(base / file)
    assert chain.run(recipe=recipe) == EVERYTHING


@pytest.mark.parametrize(
    "changes",
    [
        {"presets": {"cracked": Preset(after="!")}},
        {"presets": {"Cracked": Preset()}},
        {"defaults": Defaults(steps=21)},
        {"name": "other"},
    ],
    ids=str,
)
def test_what_a_recipe_says_is_in_its_bundle(chain: Chain, changes: dict[str, Any]) -> None:
    recipe = replace(chain.recipe, presets={"cracked": Preset()}, defaults=Defaults(steps=20))
    chain.run(recipe=recipe)
    assert chain.run(recipe=replace(recipe, **changes)) == EVERYTHING
    assert chain.run(recipe=replace(recipe, **changes)) == []


def test_scale_beside_a_peft_lora_counts_too(chain: Chain, tmp_path: Path) -> None:
    """Two alphas exchanged: as many layers have each as before."""
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_"
    tensors: Tensors = {}
    for name in ("q", "k"):
        tensors |= {
            f"base_model.model.{layer}{name}.lora_A.weight": torch.ones(4, WIDTH),
            f"base_model.model.{layer}{name}.lora_B.weight": torch.ones(WIDTH, 4),
        }
    file = write_lora(tmp_path / "adapter_model.safetensors", tensors)
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps({"lora_alpha": 1, "alpha_pattern": {"to_q": 2}}))
    recipe = replace(chain.recipe, loras=(RecipeLora("peft", str(file), 0.6),))
    chain.run(recipe=recipe)
    config.write_text(json.dumps({"lora_alpha": 1, "alpha_pattern": {"to_k": 2}}))
    assert chain.run(recipe=recipe) == EVERYTHING


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
    assert chain.run(export=ExportOptions("fp16")) == EVERYTHING
    assert chain.run(export=ExportOptions("fp16")) == []


@pytest.mark.parametrize(
    "options",
    [
        ExportOptions("fp32", opset=19),
        ExportOptions("fp32", static="16x16"),
        ExportOptions("fp32", static="16x16x2"),
        ExportOptions("fp32,vae_encoder=fp16"),
    ],
)
def test_other_export_options_rebuild_the_bundle_alone(
    chain: Chain, options: ExportOptions
) -> None:
    chain.run()
    assert chain.run(export=options) == ["export", "verify"]
    assert chain.run(export=options) == []
    same = ExportOptions("fp32,unet=fp32")
    assert chain.run(export=same) == ["export", "verify"]
    assert chain.run() == []


def test_text_encoder_alone_in_fp32_is_fused_so(chain: Chain) -> None:
    fp16 = ExportOptions("fp16")
    chain.run(export=fp16)
    assert chain.run(export=ExportOptions("fp16,vae_decoder=fp32")) == ["export", "verify"]
    assert chain.run(export=ExportOptions("fp16,text_encoder=fp32")) == EVERYTHING


def test_more_pictures_verify_again(chain: Chain) -> None:
    chain.run(pictures=1)
    assert chain.run(pictures=0) == []
    assert chain.run(pictures=2) == ["verify"]
    assert chain.run(pictures=1) == []


def test_other_tools_rebuild_the_bundle_alone(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.run()
    monkeypatch.setattr("convert.export_plan.tool_versions", lambda _: {"onnx": "0.1"})
    assert chain.run() == ["export", "verify"]


def test_another_torch_rebuilds_everything(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    chain.run()
    for module in ("fuse_plan", "export_plan", "parity"):
        monkeypatch.setattr(f"convert.{module}.tool_versions", lambda _: {"torch": "0.1"})
    assert chain.run() == EVERYTHING


def test_another_onnxruntime_verifies_again(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    chain.run()
    monkeypatch.setattr("convert.parity.tool_versions", lambda _: {"onnxruntime": "0.1"})
    assert chain.run() == ["verify"]
    assert chain.run() == []


@pytest.mark.parametrize(
    ("file", "redone"),
    [
        ("bundle.fused/unet/diffusion_pytorch_model.safetensors", ["fuse"]),
        ("bundle.fused/tokenizer/merges.txt", ["fuse"]),
        ("bundle/graph", ["export", "verify"]),
    ],
)
def test_damaged_output_is_not_skipped(chain: Chain, file: str, redone: list[str]) -> None:
    chain.run()
    _flip(chain.directory / file)
    assert chain.run() == redone
    assert chain.run() == []


def test_two_at_once_are_one_after_the_other(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes the bundle has both places for the whole time."""
    from convert.export import run_export

    seen = []

    def export(*arguments: Any, **options: Any) -> Any:
        seen.extend(sorted(path.name for path in chain.directory.glob(".*.lock")))
        return run_export(*arguments, **options)

    monkeypatch.setattr("convert.export.run_export", export)
    chain.run()
    assert len(seen) == 2
    assert list(chain.directory.glob(".*")) == []


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
