"""The backends of CPUs on a graph of two nodes: same numbers, no silent fallback."""

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from engines.backend import Backend
from engines.backends.cpu import CpuBackend
from engines.backends.openvino import OpenVinoBackend
from engines.backends.openvino_library import import_library
from engines.bundle import Bundle
from engines.errors import BackendError, OutOfMemoryError

BACKENDS: Mapping[Backend, tuple[object, str]] = {
    CpuBackend(): (onnxruntime, "InferenceSession"),
    OpenVinoBackend(): (import_library().Core, "compile_model"),
}
"""With what compiles a graph for each."""

ADVICE = (
    "There was too little memory: choose a smaller size, fewer pictures at once, or a machine with "
    "more memory."
)

every_backend = pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)


@every_backend
def test_runs_with_bound_inputs_and_changing_batch(two_nodes: Bundle, backend: Backend) -> None:
    assert backend.unavailable(two_nodes) is None
    with backend.open_session(two_nodes, "unet") as session:
        for batch in (1, 3):
            bias = np.full((batch, 3), -1.0, np.float32)
            first = np.arange(batch * 3, dtype=np.float32).reshape(batch, 3)
            out = session.run({"sample": first, "bias": bias})["out_sample"]
            np.testing.assert_array_equal(out, np.maximum(first - 1, 0))
            second = np.ascontiguousarray(first[::-1] * 4)
            out = session.run({"sample": second})["out_sample"]
            np.testing.assert_array_equal(out, np.maximum(second - 1, 0))


@every_backend
def test_takes_arrays_that_may_not_be_written_to(two_nodes: Bundle, backend: Backend) -> None:
    feeds = {name: np.full((1, 3), 2, np.float32) for name in ("sample", "bias")}
    for array in feeds.values():
        array.flags.writeable = False
    with backend.open_session(two_nodes, "unet") as session:
        np.testing.assert_array_equal(session.run(feeds)["out_sample"], [[4, 4, 4]])


@every_backend
def test_a_damaged_graph_is_the_users_error(two_nodes: Bundle, backend: Backend) -> None:
    two_nodes.graph("unet").write_bytes(b"not a graph")
    with pytest.raises(BackendError, match=r"cannot load .*unet/model\.onnx") as refusal:
        run_zeros(two_nodes, backend)
    assert "\n" not in str(refusal.value)


def test_openvino_leaves_no_node_to_another(two_nodes: Bundle) -> None:
    """A graph with an operator that only the CPU provider knows loads there, and only there."""
    path = two_nodes.graph("unet")
    model = onnx.load(path)
    model.graph.node[1].CopyFrom(
        helper.make_node("Binarizer", ["sum"], ["out_sample"], domain="ai.onnx.ml", threshold=0.0)
    )
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    onnx.save(model, path)
    CpuBackend().open_session(two_nodes, "unet").close()
    with pytest.raises(BackendError, match="cannot load"):
        run_zeros(two_nodes, OpenVinoBackend())


def test_too_little_memory_is_told_from_other_failures(
    two_nodes: Bundle, capfd: pytest.CaptureFixture[str]
) -> None:
    """A node that asks for 48 TB; ONNX Runtime's own lines stay unwritten."""
    path = two_nodes.graph("unet")
    model = onnx.load(path)
    shape = helper.make_tensor("shape", TensorProto.INT64, [3], [2**42, 1, 3])
    model.graph.node.insert(1, helper.make_node("Constant", [], ["shape"], value=shape))
    model.graph.node.insert(2, helper.make_node("Expand", ["sum", "shape"], ["many"]))
    model.graph.node[3].input[0] = "many"
    onnx.save(model, path)
    with pytest.raises(OutOfMemoryError, match=rf"^{ADVICE} ONNX Runtime failed") as refusal:
        run_zeros(two_nodes, CpuBackend())
    assert "\n" not in str(refusal.value)
    assert capfd.readouterr() == ("", "")


@every_backend
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("Exception during initialization: std::bad_alloc"), OutOfMemoryError),
        (RuntimeError("mapping for 6, err=Cannot allocate memory"), OutOfMemoryError),
        (RuntimeError("[CPU] Could not allocate memory"), OutOfMemoryError),
        (MemoryError(), OutOfMemoryError),
        (RuntimeError("Failed to allocate required number of vector registers"), BackendError),
        (RuntimeError("Cannot allocate memory for incompatible descriptors."), BackendError),
    ],
)
def test_a_graph_that_memory_is_too_short_to_compile(
    two_nodes: Bundle,
    backend: Backend,
    error: Exception,
    kind: type[BackendError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first two are what the CPU provider and OpenVINO raised under a limit of memory.

    Those that are not for want of memory are OpenVINO's as well, and a smaller call is no help.
    """

    def refuse(*arguments: object, **options: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(*BACKENDS[backend], refuse)
        with pytest.raises(BackendError, match="cannot load") as refusal:
            run_zeros(two_nodes, backend)
    assert type(refusal.value) is kind
    assert str(refusal.value).startswith(ADVICE) is (kind is OutOfMemoryError)
    assert str(refusal.value).endswith(str(error) or ": MemoryError")
    run_zeros(two_nodes, backend)


def run_zeros(bundle: Bundle, backend: Backend) -> None:
    feeds = {name: np.zeros((1, 3), np.float32) for name in ("sample", "bias")}
    with backend.open_session(bundle, "unet") as session:
        session.run(feeds)
