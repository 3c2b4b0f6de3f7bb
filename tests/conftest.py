"""Fixtures that several rooms share: the demo model, and what is made from it once a session."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.cuda_driver import no_gpu_reason

REPOSITORY = Path(__file__).parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none, and say why."""
    needing = [item for item in items if item.get_closest_marker("gpu")]
    reason = no_gpu_reason() if needing else None
    if reason is not None:
        for item in needing:
            item.add_marker(pytest.mark.skip(reason=f"needs a GPU: {reason}"))


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """Undo what a program does to the logs; its handler writes to a stream that pytest closes."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def demo_base() -> Path:
    return REPOSITORY / "demo" / "base"


@pytest.fixture(scope="session")
def demo_loras() -> tuple[Path, Path]:
    loras = REPOSITORY / "demo" / "loras"
    return loras / "cracked_skin_demo.safetensors", loras / "offset_demo.safetensors"


@pytest.fixture(scope="session")
def fused_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe `demo`, fused at its own weights in its base's dtype (fp16)."""
    from convert.fuse import run_fuse
    from convert.fuse_plan import plan_fuse
    from convert.recipe import load_recipe

    out = tmp_path_factory.mktemp("fused") / "demo-fused"
    run_fuse(plan_fuse(load_recipe("demo")), out, force=False, progress=False)
    return out


@pytest.fixture(scope="session")
def demo_bundle(fused_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`fused_demo` as a bundle of fp16 graphs."""
    return _export(fused_demo, tmp_path_factory, "fp16")


@pytest.fixture(scope="session")
def demo_bundle_fp32(fused_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`fused_demo` as a bundle of fp32 graphs."""
    return _export(fused_demo, tmp_path_factory, "fp32")


def _export(fused: Path, tmp_path_factory: pytest.TempPathFactory, dtype: str) -> Path:
    from convert.export import run_export
    from convert.export_plan import plan_export

    out = tmp_path_factory.mktemp("bundles") / f"demo-{dtype}"
    run_export(plan_export(fused, dtype=dtype), out, force=False, progress=False)
    return out
