"""ONNX Runtime's sessions on a graph of two nodes: same numbers, no silent fallback."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engines.backend import Backend
from engines.backends.cpu import CpuBackend
from engines.backends.openvino import OpenVinoBackend
from engines.bundle import Bundle
from engines.errors import BackendError, OutOfMemoryError
from engines.manifest import ComponentSpec, FileEntry, Latents, Manifest, TensorSpec

SHAPE: tuple[int | str, ...] = ("batch", 3)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
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


@pytest.mark.parametrize("backend", [CpuBackend(), OpenVinoBackend()], ids=lambda b: b.name)
def test_runs_with_bound_inputs_and_changing_batch(bundle: Bundle, backend: Backend) -> None:
    assert backend.unavailable(bundle) is None
    with backend.open_session(bundle, "unet") as session:
        for batch in (1, 3):
            bias = np.full((batch, 3), -1.0, np.float32)
            first = np.arange(batch * 3, dtype=np.float32).reshape(batch, 3)
            out = session.run({"sample": first, "bias": bias})["out_sample"]
            np.testing.assert_array_equal(out, np.maximum(first - 1, 0))
            second = np.ascontiguousarray(first[::-1] * 4)
            out = session.run({"sample": second})["out_sample"]
            np.testing.assert_array_equal(out, np.maximum(second - 1, 0))


@pytest.mark.parametrize("backend", [CpuBackend(), OpenVinoBackend()], ids=lambda b: b.name)
def test_a_damaged_graph_is_the_users_error(bundle: Bundle, backend: Backend) -> None:
    bundle.graph("unet").write_bytes(b"not a graph")
    with pytest.raises(BackendError, match=r"ONNX Runtime cannot load .*unet/model\.onnx"):
        backend.open_session(bundle, "unet")


def test_no_node_falls_back_from_openvino(bundle: Bundle) -> None:
    """A graph with an operator that only the CPU provider knows loads there, and only there."""
    path = bundle.graph("unet")
    model = onnx.load(path)
    model.graph.node[1].CopyFrom(
        helper.make_node("Binarizer", ["sum"], ["out_sample"], domain="ai.onnx.ml", threshold=0.0)
    )
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    onnx.save(model, path)
    CpuBackend().open_session(bundle, "unet").close()
    with pytest.raises(BackendError, match="cannot load"):
        OpenVinoBackend().open_session(bundle, "unet")


def test_too_little_memory_is_told_from_other_failures(bundle: Bundle) -> None:
    """A node that asks for 48 TB."""
    path = bundle.graph("unet")
    model = onnx.load(path)
    shape = helper.make_tensor("shape", TensorProto.INT64, [3], [2**42, 1, 3])
    model.graph.node.insert(1, helper.make_node("Constant", [], ["shape"], value=shape))
    model.graph.node.insert(2, helper.make_node("Expand", ["sum", "shape"], ["many"]))
    model.graph.node[3].input[0] = "many"
    onnx.save(model, path)
    feeds = {name: np.zeros((1, 3), np.float32) for name in ("sample", "bias")}
    with CpuBackend().open_session(bundle, "unet") as session, pytest.raises(OutOfMemoryError):
        session.run(feeds)
