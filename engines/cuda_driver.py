"""What the NVIDIA driver says: which GPUs there are, asked of the driver alone.

No package says it reliably: an engine library lists its GPU providers on machines without a GPU,
and some crash when they start without a driver. The driver's own library is part of every
installation that can run anything on the GPU, so ctypes is all that this takes.
"""

import ctypes
import functools
from dataclasses import dataclass

from engines.errors import BackendError

_LIBRARY = "libcuda.so.1"
_NO_DEVICE = 100
"""CUDA_ERROR_NO_DEVICE: the driver is there, and no GPU that this process may see."""
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""


@dataclass(frozen=True)
class Gpu:
    """One GPU: its name, its compute capability (8.9 is SM 89) and its memory in bytes."""

    name: str
    capability: tuple[int, int]
    memory: int


@dataclass(frozen=True)
class Driver:
    """The driver and the GPUs that this process may use, in CUDA's order; at least one.

    `cuda` is the newest version of CUDA that the driver runs, such as (13, 0).
    """

    cuda: tuple[int, int]
    gpus: tuple[Gpu, ...]


@functools.cache
def probe_driver() -> Driver:
    """Ask the driver, once a process.

    Raises:
        BackendError: there is no driver, it does not start, or it sees no GPU.
    """
    return ask(_load())


def ask(library: ctypes.CDLL) -> Driver:
    """The same of a loaded driver library.

    Raises:
        BackendError: it does not start, or it sees no GPU.
    """
    status = library.cuInit(0)
    if status == _NO_DEVICE:
        raise BackendError(
            "the NVIDIA driver sees no GPU; check CUDA_VISIBLE_DEVICES and `nvidia-smi`"
        )
    _check(library, "cuInit", status)
    version = _integer(library, "cuDriverGetVersion")
    gpus = tuple(_gpu(library, i) for i in range(_integer(library, "cuDeviceGetCount")))
    if not gpus:
        raise BackendError("the NVIDIA driver sees no GPU; check CUDA_VISIBLE_DEVICES")
    return Driver((version // 1000, version % 1000 // 10), gpus)


def no_gpu_reason() -> str | None:
    """Why this machine has no usable NVIDIA GPU, or None where it has one."""
    try:
        probe_driver()
    except BackendError as error:
        return str(error)
    return None


def _load() -> ctypes.CDLL:
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise BackendError(
            f"{_LIBRARY} does not load: no NVIDIA driver, or a container without --gpus"
        ) from error


def _gpu(library: ctypes.CDLL, ordinal: int) -> Gpu:
    device = _integer(library, "cuDeviceGet", ordinal)
    name = ctypes.create_string_buffer(256)
    _check(
        library, "cuDeviceGetName", library.cuDeviceGetName(name, ctypes.c_int(len(name)), device)
    )
    memory = ctypes.c_size_t()
    _check(
        library,
        "cuDeviceTotalMem",
        library.cuDeviceTotalMem_v2(ctypes.byref(memory), ctypes.c_int(device)),
    )
    capability = (
        _integer(library, "cuDeviceGetAttribute", _CAPABILITY_MAJOR, device),
        _integer(library, "cuDeviceGetAttribute", _CAPABILITY_MINOR, device),
    )
    return Gpu(name.value.decode(errors="replace"), capability, memory.value)


def _integer(library: ctypes.CDLL, function: str, *arguments: int) -> int:
    """What a function writes to the integer that its first argument points to."""
    value = ctypes.c_int()
    status = getattr(library, function)(
        ctypes.byref(value), *(ctypes.c_int(argument) for argument in arguments)
    )
    _check(library, function, status)
    return value.value


def _check(library: ctypes.CDLL, function: str, status: int) -> None:
    if status == 0:
        return
    text = ctypes.c_char_p()
    library.cuGetErrorString(ctypes.c_int(status), ctypes.byref(text))
    why = text.value.decode(errors="replace") if text.value else "no reason given"
    raise BackendError(f"the NVIDIA driver fails in {function}: {why} (error {status})")
