"""Inputs that stay on the GPU, recorded graphs, no work on the CPU: on stand-ins for the GPU."""

from collections.abc import Callable

import numpy as np
import pytest

from engines.backends import cuda, ort, ort_device
from engines.backends.cuda import CudaBackend
from engines.backends.ort_device import GpuProvider, OrtDeviceSession
from engines.bundle import Bundle
from engines.errors import BackendError, OutOfMemoryError
from engines.session import Array
from tests.engines.backends.gpu_stand_in import StandInRuntime

InstallRuntime = Callable[..., StandInRuntime]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> InstallRuntime:
    """Put a stand-in in ONNX Runtime's place."""

    def put(active: str = cuda.PROVIDER, on_cpu: tuple[str, ...] = ()) -> StandInRuntime:
        runtime = StandInRuntime(active, on_cpu)
        monkeypatch.setattr(ort, "onnxruntime", runtime)
        monkeypatch.setattr(ort_device, "onnxruntime", runtime)
        return runtime

    return put


def _feeds(batch: int, value: float = 1.0) -> dict[str, Array]:
    sample = np.arange(batch * 3, dtype=np.float32).reshape(batch, 3) * np.float32(value)
    return {"sample": sample, "bias": np.full((batch, 3), -1.0, np.float32)}


def _expected(feeds: dict[str, Array]) -> Array:
    expected: Array = np.maximum(feeds["sample"] + feeds["bias"], 0)
    return expected


@pytest.mark.parametrize("graph", [False, True])
def test_only_what_changed_is_uploaded(
    install: InstallRuntime, two_nodes: Bundle, *, graph: bool
) -> None:
    runtime = install()
    with CudaBackend(graph=graph).open_session(two_nodes, "unet") as session:
        feeds = _feeds(2)
        np.testing.assert_array_equal(session.run(feeds)["out_sample"], _expected(feeds))
        for value in (3.0, -2.0, 5.0):
            feeds["sample"] = _feeds(2, value)["sample"]
            out = session.run({"sample": feeds["sample"]})["out_sample"]
            np.testing.assert_array_equal(out, _expected(feeds))
    assert runtime.uploads == [(2, 3)] * 5
    assert runtime.providers == [(cuda.PROVIDER, {"enable_cuda_graph": str(int(graph))})]


def test_each_shape_is_recorded_once_and_replayed(
    install: InstallRuntime, two_nodes: Bundle
) -> None:
    runtime = install()
    with CudaBackend(graph=True).open_session(two_nodes, "unet") as session:
        for batch in (1, 2, 1, 2, 2):
            feeds = _feeds(batch, batch + 1.0)
            out = session.run(feeds)["out_sample"]
            np.testing.assert_array_equal(out, _expected(feeds))
    assert runtime.recorded == [1, 2]
    assert runtime.replayed == [1, 2, 2]


def test_an_input_fed_under_another_shape_is_not_stale(
    install: InstallRuntime, two_nodes: Bundle
) -> None:
    """Back at a recorded shape, an input that did not change keeps what was fed last."""
    install()
    with CudaBackend(graph=True).open_session(two_nodes, "unet") as session:
        for batch, value in ((1, 1.0), (2, 1.0), (1, 7.0)):
            feeds = _feeds(batch, value)
            session.run(feeds)
        feeds["bias"] = np.full((1, 3), 4.0, np.float32)
        out = session.run({"bias": feeds["bias"]})["out_sample"]
        np.testing.assert_array_equal(out, _expected(feeds))


def test_shapes_beyond_the_most_run_without_being_recorded(
    install: InstallRuntime, two_nodes: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort_device, "MOST_GRAPHS", 2)
    runtime = install()
    with CudaBackend(graph=True).open_session(two_nodes, "unet") as session:
        for batch in (1, 2, 3, 4, 3):
            feeds = _feeds(batch)
            out = session.run(feeds)["out_sample"]
            np.testing.assert_array_equal(out, _expected(feeds))
    assert runtime.recorded == [1, 2]


def test_another_provider_than_the_one_asked_for_is_an_error(
    install: InstallRuntime, two_nodes: Bundle
) -> None:
    """What a real onnxruntime-gpu does without CUDA's libraries: it logs, and takes the CPU."""
    install(active="CPUExecutionProvider")
    with pytest.raises(BackendError, match="on CPUExecutionProvider instead of CUDAExecutionProv"):
        CudaBackend().open_session(two_nodes, "unet")


def test_work_that_is_left_to_the_cpu_is_an_error(
    install: InstallRuntime, two_nodes: Bundle
) -> None:
    install(on_cpu=("Shape", "Concat", "LayerNormalization"))
    with pytest.raises(BackendError, match=r"the CPU, which would be slow: LayerNormalization\. I"):
        CudaBackend().open_session(two_nodes, "unet")


def test_shapes_may_be_computed_on_the_cpu(install: InstallRuntime, two_nodes: Bundle) -> None:
    runtime = install(on_cpu=("Shape", "Gather", "Concat"))
    CudaBackend().open_session(two_nodes, "unet").close()
    assert runtime.strict == ""


def test_a_plugin_may_leave_nothing_to_the_cpu(install: InstallRuntime, two_nodes: Bundle) -> None:
    runtime = install("SomePlugin", ("Shape",))
    OrtDeviceSession(two_nodes, "unet", GpuProvider("SomePlugin", lambda options: None)).close()
    assert runtime.strict == "1"


def test_a_failure_on_the_gpu_is_the_users_error(
    install: InstallRuntime, two_nodes: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    install()

    def fail(*_: object) -> None:
        raise RuntimeError("CUDA failure 2: out of memory")

    monkeypatch.setattr(ort_device._Call, "run", fail)
    with (
        CudaBackend().open_session(two_nodes, "unet") as session,
        pytest.raises(
            OutOfMemoryError, match=r"^There was .* on the GPU: CUDA failure 2: out of memory"
        ),
    ):
        session.run(_feeds(1))
