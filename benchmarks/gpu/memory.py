"""How much of a GPU's memory is in use, from NVML, which the driver brings along."""

import ctypes
import os
import threading
from collections.abc import Callable

_LIBRARY = "libnvidia-ml.so.1"

ReadMemory = Callable[[], int]
"""Returns the bytes that are in use on the GPU, by whatever process."""


class _Memory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = [
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    ]


def open_nvml() -> ReadMemory | str:
    """A function that reads the memory in use on the first visible GPU, or why there is none."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        return f"no NVML: {error}"
    status = library.nvmlInit_v2()
    if status:
        return f"NVML does not start (error {status})"
    device = ctypes.c_void_p()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    if visible.isdecimal():
        status = library.nvmlDeviceGetHandleByIndex_v2(int(visible), ctypes.byref(device))
    else:
        status = library.nvmlDeviceGetHandleByUUID(visible.encode(), ctypes.byref(device))
    if status:
        return f"NVML does not find the GPU {visible!r} (error {status})"

    def read() -> int:
        memory = _Memory()
        status = library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory))
        return 0 if status else int(memory.used)

    try_once = read()
    return read if try_once else "NVML does not tell the memory in use"


class PeakMemory:
    """Watches the memory in use in a thread, while a process runs; a context manager.

    `peak` is the most that was in use above what was in use at the start, in bytes: of the whole
    GPU, so nothing else may run on it.
    """

    def __init__(self, read: ReadMemory, interval: float = 0.02) -> None:
        self.peak = 0
        self._read = read
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._start = self._read()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            self.peak = max(self.peak, self._read() - self._start)
