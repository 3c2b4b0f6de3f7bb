"""Whether a backend of ONNX Runtime can be used on a GPU: every reason why not, in words."""

import sys
from types import SimpleNamespace

import pytest

from engines import cuda_driver
from engines.backends import cuda, ort_tensorrt_rtx
from engines.backends.cuda import CudaBackend
from engines.backends.ort_tensorrt_rtx import OrtTensorRtRtxBackend, profile_options
from engines.bundle import Bundle
from engines.cuda_driver import Driver, Gpu
from engines.manifest import TensorSpec

ADA = Gpu("NVIDIA GeForce RTX 4090", (8, 9), 24 << 30)


def _have(
    monkeypatch: pytest.MonkeyPatch, gpu: Gpu = ADA, newest: tuple[int, int] = (13, 0)
) -> None:
    """Let there be a GPU, and a driver for CUDA up to `newest`."""
    driver = Driver(newest, (gpu,))
    for module in (cuda_driver, cuda, ort_tensorrt_rtx):
        monkeypatch.setattr(module, "probe_driver", lambda: driver)


def _install(monkeypatch: pytest.MonkeyPatch, *providers: str, version: str = "13.0") -> None:
    """Let an onnxruntime with these providers be installed."""
    fake = SimpleNamespace(
        __version__="1.31.1",
        cuda_version=version,
        get_available_providers=lambda: [*providers, "CPUExecutionProvider"],
        get_device=lambda: "GPU",
        preload_dlls=lambda: print("Failed to load libcublasLt.so.13"),  # noqa: T201
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)


def test_the_plain_onnxruntime_is_told_from_the_gpu_one(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    _have(monkeypatch)
    _install(monkeypatch)
    reason = CudaBackend().unavailable(bundle)
    assert reason is not None
    assert "was built without CUDA" in reason
    assert "pip uninstall onnxruntime onnxruntime-gpu" in reason


def test_a_driver_that_is_too_old_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    _have(monkeypatch, newest=(12, 4))
    _install(monkeypatch, cuda.PROVIDER)
    reason = CudaBackend().unavailable(bundle)
    assert reason == (
        "the NVIDIA driver runs CUDA up to 12.4, and this onnxruntime-gpu needs 13.0; "
        "update the driver"
    )


def test_missing_libraries_are_named_and_stdout_stays_clean(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real package lists its CUDA provider, says GPU, and loads on the CPU in this case."""
    _have(monkeypatch, newest=(99, 0))
    _install(monkeypatch, cuda.PROVIDER, version="99.0")
    reason = CudaBackend().unavailable(bundle)
    assert reason is not None
    assert "libcublasLt.so.99: cannot open shared object file" in reason
    assert "pip install 'fracture-sd[cuda]'" in reason
    assert capsys.readouterr().out == ""


def test_everything_there_is_available(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    _have(monkeypatch)
    _install(monkeypatch, cuda.PROVIDER)
    monkeypatch.setattr(cuda, "_load_fault", lambda library: None)
    assert CudaBackend().unavailable(bundle) is None
    assert CudaBackend().device == "NVIDIA GeForce RTX 4090, ONNX Runtime CUDA without CUDA graphs"


@pytest.mark.parametrize(
    ("capability", "runs"),
    [
        ((7, 5), False),
        ((8, 0), False),
        ((8, 6), True),
        ((8, 7), False),
        ((8, 9), True),
        ((9, 0), False),
        ((10, 0), False),
        ((12, 0), True),
        ((12, 1), True),
    ],
)
def test_the_plugin_says_which_gpus_it_does_not_run_on(
    capability: tuple[int, int], runs: bool, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is the plugin's own: IsComputeCapabilitySupported in its header."""
    _have(monkeypatch, Gpu("Some GPU", capability, 1 << 34))
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", SimpleNamespace())
    reason = OrtTensorRtRtxBackend().unavailable(bundle)
    assert (reason is None) is runs
    if reason is not None:
        assert f"Some GPU (compute capability {capability[0]}.{capability[1]})" in reason


def test_the_plugins_package_can_be_missing(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    _have(monkeypatch)
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", None)
    reason = OrtTensorRtRtxBackend().unavailable(bundle)
    assert reason is not None
    assert "onnxruntime_ep_nv_tensorrt_rtx is not installed" in reason


def test_shapes_of_the_plugins_profile() -> None:
    inputs = (
        TensorSpec("sample", "float16", ("batch", 4, "height", "width")),
        TensorSpec("encoder_hidden_states", "float16", ("batch", "tokens", 768)),
    )
    assert profile_options(inputs) == {
        "nv_profile_min_shapes": "sample:1x4x8x8,encoder_hidden_states:1x77x768",
        "nv_profile_opt_shapes": "sample:2x4x64x64,encoder_hidden_states:2x77x768",
        "nv_profile_max_shapes": "sample:16x4x128x128,encoder_hidden_states:16x308x768",
    }
