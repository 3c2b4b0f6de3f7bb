"""What tests of backends share: a cache of their own, a stand-in GPU, tiny bundles."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from engines.bundle import Bundle
from engines.manifest import ComponentSpec, FileEntry, Latents, Manifest, TensorSpec
from tests.engines.backends.stand_in_plans import StandInMachine
from tests.engines.backends.tiny_bundle import tiny_bundle

SHAPE: tuple[int | str, ...] = ("batch", 3)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    path = tmp_path / "cache"
    monkeypatch.setenv("FRACTURE_SD_CACHE", str(path))
    return path


@pytest.fixture
def machine() -> StandInMachine:
    """A GPU that counts what is done with it."""
    return StandInMachine()


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle whose UNet has a UNet's tensors."""
    return tiny_bundle(tmp_path / "bundle")


@pytest.fixture
def two_nodes(tmp_path: Path) -> Bundle:
    """A bundle whose UNet computes relu(sample + bias)."""
    sample, bias, out = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, list(SHAPE))
        for name in ("sample", "bias", "out_sample")
    )
    nodes = [
        helper.make_node("Add", ["sample", "bias"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["out_sample"]),
    ]
    graph = helper.make_graph(nodes, "tiny", [sample, bias], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (tmp_path / "unet").mkdir()
    onnx.save(model, tmp_path / "unet" / "model.onnx")
    spec = ComponentSpec(
        "unet/model.onnx",
        "float32",
        inputs=(TensorSpec("sample", "float32", SHAPE), TensorSpec("bias", "float32", SHAPE)),
        outputs=(TensorSpec("out_sample", "float32", SHAPE),),
    )
    files = {"unet/model.onnx": FileEntry(1, "0" * 64)}
    return Bundle(
        tmp_path, Manifest("tiny", "0", {}, Latents(4, 8, 1.0), {"unet": spec}, files=files)
    )
