"""Choosing a backend: never a silent fallback, always a reason."""

import signal
import sys
from pathlib import Path

import pytest

from engines import backend, cuda_driver, layout
from engines.bundle import Bundle
from engines.errors import BackendError, SettingError
from engines.manifest import FileEntry, Latents, Manifest


def _bundle(unet_bytes: int) -> Bundle:
    files = {
        "unet/model.onnx": FileEntry(1_000, "0" * 64),
        "unet/model.onnx_data": FileEntry(unet_bytes - 1_000, "0" * 64),
        "unet/config.json": FileEntry(10**12, "0" * 64),
    }
    latents = Latents(4, 8, 0.18215)
    return Bundle(Path("bundles/x"), Manifest("x", "0", {}, latents, components={}, files=files))


def test_weights_are_a_graph_and_its_data() -> None:
    assert _bundle(5_000).weights_size(layout.UNET) == 5_000


def test_unknown_name_lists_the_names() -> None:
    with pytest.raises(
        SettingError, match=r"No backend 'gpu'; choose one of auto, .*, openvino, cpu\."
    ):
        backend.choose_backend("gpu", _bundle(1_000_000))


def test_auto_takes_openvino_for_a_large_unet() -> None:
    choice = backend.choose_backend("auto", _bundle(1_700_000_000))
    assert choice.backend.name == "openvino"
    assert choice.reason.startswith("the fastest here")
    assert "not openvino" not in choice.reason


def test_auto_gives_a_reason_that_several_share_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("trt.TensorRtBackend", "cuda.CudaBackend", "cpu.CpuBackend"):
        monkeypatch.setattr(f"engines.backends.{kind}.unavailable", lambda *_: "it is Monday")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(
        BackendError, match=r"here: not .*tensorrt-rtx, cuda, cpu: it is Monday; not op"
    ):
        backend.choose_backend("auto", _bundle(1_700_000_000))


@pytest.mark.parametrize("name", ["cuda", "ort-tensorrt-rtx"])
def test_a_gpu_backend_without_a_driver_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "_LIBRARY", "libcuda-that-is-not-there.so.1")
    cuda_driver.probe_driver.cache_clear()
    with pytest.raises(BackendError, match=f"backend {name} cannot be used: .*no NVIDIA driver"):
        backend.choose_backend(name, _bundle(1_700_000_000))
    cuda_driver.probe_driver.cache_clear()


def test_auto_leaves_alone_what_has_to_be_wanted() -> None:
    reason = backend.choose_backend("auto", _bundle(16_000_000)).reason
    assert "cuda-graph" not in reason
    assert "ort-tensorrt-rtx" not in reason


def test_auto_says_why_it_passed_over_openvino() -> None:
    choice = backend.choose_backend("auto", _bundle(16_000_000))
    assert choice.backend.name == "cpu"
    assert "not openvino" in choice.reason
    assert "16 MB" in choice.reason


def test_a_named_backend_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match=r"openvino is not installed.*pip install"):
        backend.choose_backend("openvino", _bundle(1_700_000_000))


def test_a_package_that_does_not_load_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libstdc++.so.6 is too old')")
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BackendError, match=r"does not load \(libstdc\+\+\.so\.6 is too old\)"):
        backend.choose_backend("cpu", _bundle(1_000_000))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_until_the_library_is_imported(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime's initialisation drops the exception or makes an ImportError of it."""
    (tmp_path / "onnxruntime.py").write_text(
        f"""
import signal
try:
    signal.raise_signal({int(number)})
except BaseException:
    raise ImportError("initialization failed") from None
"""
    )
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.syspath_prepend(tmp_path)

    class Interrupted(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(number, interrupt)
    try:
        with pytest.raises(Interrupted):
            backend.choose_backend("cpu", _bundle(1_000_000))
        assert "onnxruntime" in sys.modules
        assert signal.getsignal(number) is interrupt
    finally:
        signal.signal(number, before)


def test_auto_without_any_backend_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BackendError, match=r"No backend works here.*fracture-sd\[cpu\]"):
        backend.choose_backend("auto", _bundle(1_700_000_000))


def test_survey_names_every_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    survey = backend.survey(_bundle(1_700_000_000))
    assert survey["cpu"] == "available"
    assert "not installed" in survey["openvino"]
