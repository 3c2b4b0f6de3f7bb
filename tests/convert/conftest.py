"""Fixtures of the converter's tests."""

from pathlib import Path

import pytest

from tests.convert.ldm_files import make_checkpoint, write_checkpoint
from tests.convert.synthetic import Tensors
from tests.convert.tiny_model import write_tiny_model


@pytest.fixture(scope="session")
def tiny_model(demo_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers directory that no `convert fuse` made."""
    return write_tiny_model(demo_base, tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_bundle(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_model` as a bundle of fp32 graphs."""
    from convert.export import run_export
    from convert.export_plan import plan_export

    out = tmp_path_factory.mktemp("bundles") / "tiny"
    run_export(plan_export(tiny_model, dtype="fp32"), out, force=False, progress=False)
    return out


@pytest.fixture(scope="session")
def tensors(demo_base: Path) -> Tensors:
    """The demo as a checkpoint has it."""
    return make_checkpoint(demo_base)


@pytest.fixture(scope="session")
def checkpoint(tensors: Tensors, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo as a single file in the original layout."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "demo.safetensors", tensors)
