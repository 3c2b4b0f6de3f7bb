"""What the runtime's tests share on the demo model; torch comes with the first that needs it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runtime.pipeline import Pipeline

if TYPE_CHECKING:
    from tests.runtime.against_diffusers import Reference


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """torch on one thread: for a model this small, threads cost more than they bring."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def reference(fused_demo: Path, one_thread: None) -> "Reference":
    """diffusers on the fused demo model."""
    from tests.runtime.against_diffusers import Reference

    return Reference(fused_demo)


@pytest.fixture(scope="module")
def exact(demo_bundle_fp32: Path) -> Iterator[Pipeline]:
    """The float32 bundle on ONNX Runtime's CPU provider."""
    with Pipeline.open(demo_bundle_fp32, "cpu") as pipeline:
        yield pipeline
