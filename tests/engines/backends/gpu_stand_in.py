"""Stand-ins for a GPU in ONNX Runtime and for its driver, on machines that have neither.

The stand-in runs the real graph with the real I/O binding on the CPU provider, and is as strict as
the GPU is: memory that was asked for on the GPU must be bound where it was allocated, a recorded
graph replays on the addresses that it was recorded with, and says so where they moved.
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime

from engines.backends.ort_device import NVIDIA
from engines.cuda_driver import Gpu


class StandInRuntime:
    """Takes the place of the module `onnxruntime` in `ort` and `ort_device`.

    Args:
        active: the provider that a session says it runs on.
        on_cpu: operators that the session says it left to the CPU.
    """

    SessionOptions = onnxruntime.SessionOptions
    RunOptions = onnxruntime.RunOptions

    def __init__(self, active: str, on_cpu: Sequence[str] = ()) -> None:
        self.active = active
        self.on_cpu = on_cpu
        self.strict = ""
        self.providers: object = None
        self.recorded: list[int] = []
        self.replayed: list[int] = []
        self.uploads: list[tuple[int, ...]] = []
        self.OrtValue = _values(self)

    def InferenceSession(  # noqa: N802 - the name that is replaced
        self, path: str, options: Any, providers: object, enable_fallback: int
    ) -> "_Session":
        assert enable_fallback == 0, "the real one would try another provider by itself"
        self.providers = providers
        self.strict = _entry(options.get_session_config_entry, "session.disable_cpu_ep_fallback")
        return _Session(path, self)


def _entry(get: Callable[[str], str], key: str) -> str:
    try:
        return get(key)
    except RuntimeError:  # what the real one raises for an entry that was never added
        return ""


def _values(runtime: StandInRuntime) -> Any:
    class Values:
        @staticmethod
        def ortvalue_from_shape_and_type(
            shape: Sequence[int], dtype: Any, device: str, ordinal: int, vendor: int
        ) -> Any:
            assert (device, ordinal, vendor) == ("gpu", 0, NVIDIA)
            return _Value(onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, dtype), runtime)

    return Values


class _Value:
    def __init__(self, real: Any, runtime: StandInRuntime) -> None:
        self.real = real
        self._runtime = runtime

    def update_inplace(self, array: np.ndarray[Any, Any]) -> None:
        assert tuple(self.real.shape()) == array.shape
        self._runtime.uploads.append(array.shape)
        self.real.update_inplace(array)


class _Session:
    def __init__(self, path: str, runtime: StandInRuntime) -> None:
        self._real = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self._runtime = runtime
        self._addresses: dict[int, dict[str, int]] = {}

    def get_providers(self) -> list[str]:
        return [self._runtime.active, "CPUExecutionProvider"]

    def get_provider_graph_assignment_info(self) -> list[Any]:
        class Node:
            def __init__(self, kind: str) -> None:
                self.op_type = kind

        class Part:
            def __init__(self, provider: str, kinds: Sequence[str]) -> None:
                self.ep_name = provider
                self._kinds = kinds

            def get_nodes(self) -> list[Node]:
                return [Node(kind) for kind in self._kinds]

        return [
            Part(self._runtime.active, ["Conv", "MatMul"]),
            Part("CPUExecutionProvider", self._runtime.on_cpu),
        ]

    def io_binding(self) -> "_Binding":
        return _Binding(self._real.io_binding())

    def run_with_iobinding(self, binding: "_Binding", options: Any) -> None:
        graph = int(_entry(options.get_run_config_entry, "gpu_graph_id") or "0")
        if graph > 0:
            assert set(binding.addresses) >= {"out_sample"}, "outputs that may move"
            if graph in self._addresses:
                assert self._addresses[graph] == binding.addresses, "replay after memory moved"
                self._runtime.replayed.append(graph)
            else:
                self._addresses[graph] = dict(binding.addresses)
                self._runtime.recorded.append(graph)
        self._real.run_with_iobinding(binding.real)


class _Binding:
    def __init__(self, real: Any) -> None:
        self.real = real
        self.addresses: dict[str, int] = {}

    def bind_ortvalue_input(self, name: str, value: _Value) -> None:
        self.addresses[name] = value.real.data_ptr()
        self.real.bind_ortvalue_input(name, value.real)

    def bind_ortvalue_output(self, name: str, value: Any) -> None:
        self.addresses[name] = value.data_ptr()
        self.real.bind_ortvalue_output(name, value)

    def bind_output(self, name: str, device: str, ordinal: int = 0) -> None:
        assert device in ("cpu", "cuda")
        self.real.bind_output(name, "cpu")

    def synchronize_inputs(self) -> None:
        self.real.synchronize_inputs()

    def get_outputs(self) -> Any:
        return self.real.get_outputs()

    def copy_outputs_to_cpu(self) -> Any:
        return self.real.copy_outputs_to_cpu()


class StandInDriver:
    """Takes the place of the driver's library: the functions that `engines.cuda_driver` calls."""

    def __init__(self, gpus: Sequence[Gpu], version: int = 13000, status: int = 0) -> None:
        self._gpus = gpus
        self._version = version
        self._status = status

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self._status

    def cuDriverGetVersion(self, out: Any) -> int:  # noqa: N802
        return _write(out, self._version)

    def cuDeviceGetCount(self, out: Any) -> int:  # noqa: N802
        return _write(out, len(self._gpus))

    def cuDeviceGet(self, out: Any, ordinal: Any) -> int:  # noqa: N802
        return _write(out, ordinal.value)

    def cuDeviceGetName(self, out: Any, size: Any, device: Any) -> int:  # noqa: N802
        out.value = self._gpu(device).name.encode()
        return 0

    def cuDeviceTotalMem_v2(self, out: Any, device: Any) -> int:  # noqa: N802
        return _write(out, self._gpu(device).memory)

    def cuDeviceGetAttribute(self, out: Any, attribute: Any, device: Any) -> int:  # noqa: N802
        return _write(out, self._gpu(device).capability[{75: 0, 76: 1}[attribute.value]])

    def cuGetErrorString(self, status: Any, out: Any) -> int:  # noqa: N802
        out._obj.value = b"unknown error"
        return 0

    def _gpu(self, device: ctypes.c_int | int) -> Gpu:
        return self._gpus[device.value if isinstance(device, ctypes.c_int) else device]


def _write(out: Any, value: int) -> int:
    out._obj.value = value
    return 0
