"""Memory that the GPU works on: on the device, and pinned on the host for asynchronous copies."""

import ctypes
import math
from abc import ABC, abstractmethod

import numpy as np

from engines.backends.cuda_api import CudaRuntime, Handle, Outcome, check
from engines.errors import OutOfMemoryError
from engines.manifest import TensorSpec
from engines.session import Array


class Block(ABC):
    """One piece of memory that grows; `address` is 0 while there is none."""

    def __init__(self, cuda: CudaRuntime, purpose: str) -> None:
        """Be empty; `purpose` says in errors what the memory is for."""
        self._cuda = cuda
        self._purpose = purpose
        self.address = 0
        self.size = 0

    def reserve(self, size: int) -> None:
        """Have at least `size` bytes; where that takes a new piece, the old content is lost.

        Nothing may be using the old piece any more.

        Raises:
            OutOfMemoryError: there is not that much memory.
        """
        if size <= self.size:
            return
        self.release()
        outcome = self._allocate(size)
        if outcome[0] == self._cuda.cudaError_t.cudaErrorMemoryAllocation:
            raise OutOfMemoryError(self._refusal(size))
        self.address = int(check(self._cuda, outcome, f"allocating memory for {self._purpose}"))
        self.size = size

    def release(self) -> None:
        """Give the memory back; a second call does nothing."""
        address, self.address, self.size = self.address, 0, 0
        if address:
            check(self._cuda, self._free(address), f"freeing the memory of {self._purpose}")

    @abstractmethod
    def _allocate(self, size: int) -> Outcome:
        """Ask CUDA for `size` bytes."""

    @abstractmethod
    def _free(self, address: int) -> Outcome:
        """Give a piece back to CUDA."""

    @abstractmethod
    def _refusal(self, size: int) -> str:
        """What to tell the user where there are no `size` bytes."""


class DeviceBlock(Block):
    """Memory of the GPU."""

    def _allocate(self, size: int) -> Outcome:
        return self._cuda.cudaMalloc(size)

    def _free(self, address: int) -> Outcome:
        return self._cuda.cudaFree(address)

    def _refusal(self, size: int) -> str:
        return (
            f"The GPU has not enough memory for {self._purpose}: {_mb(size)} are needed, "
            f"{free_memory(self._cuda)}. Make smaller pictures or fewer at once, end other "
            "programs on the GPU, or build the plans with weight streaming."
        )


class PinnedBlock(Block):
    """Memory of the host that the GPU copies from and to by itself."""

    def array(self, shape: tuple[int, ...], dtype: str) -> Array:
        """An array over the beginning of the block; it is not to be used after `release`."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        raw = (ctypes.c_ubyte * size).from_address(self.address)
        array: Array = np.ctypeslib.as_array(raw).view(dtype).reshape(shape)
        return array

    def _allocate(self, size: int) -> Outcome:
        return self._cuda.cudaMallocHost(size)

    def _free(self, address: int) -> Outcome:
        return self._cuda.cudaFreeHost(address)

    def _refusal(self, size: int) -> str:
        return (
            f"There is not enough host memory that can be pinned for {self._purpose}: {_mb(size)} "
            "are needed. End other programs, or raise `ulimit -l`."
        )


class TensorMemory:
    """One tensor, on the host and on the device. Both grow with its shape.

    Growing costs one allocation at a size that was not seen before. Room for a profile's largest
    shape would cost hundreds of megabytes that most sessions never touch.
    """

    def __init__(self, cuda: CudaRuntime, spec: TensorSpec, component: str) -> None:
        """Be empty; `component` is what the tensor belongs to."""
        self._cuda = cuda
        self._dtype = spec.dtype
        self._doing = f"copying {spec.name} of {component}"
        self._host = PinnedBlock(cuda, f"{spec.name} of {component}")
        self._device = DeviceBlock(cuda, f"{spec.name} of {component}")
        self._array: Array | None = None

    @property
    def address(self) -> int:
        """Where it is on the device."""
        return self._device.address

    @property
    def size(self) -> int:
        """Bytes of the tensor."""
        return self._array.nbytes if self._array is not None else 0

    def shape_as(self, shape: tuple[int, ...]) -> Array:
        """Take a shape: the host's array of that shape, in the pinned memory."""
        if self._array is None or self._array.shape != shape:
            size = max(math.prod(shape) * np.dtype(self._dtype).itemsize, 1)
            self._array = None
            self._host.reserve(size)
            self._device.reserve(size)
            self._array = self._host.array(shape, self._dtype)
        return self._array

    def holds(self, array: Array) -> bool:
        """Whether the host's array has the same shape and the same bytes."""
        if self._array is None or self._array.shape != array.shape:
            return False
        return bool(np.array_equal(self._array.view(np.uint8), array.view(np.uint8)))

    def upload(self, stream: Handle) -> None:
        """Begin to copy the host's array to the device."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(self._device.address, self._host.address, kind, stream)

    def download(self, stream: Handle) -> None:
        """Begin to copy the device's content to the host's array."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(self._host.address, self._device.address, kind, stream)

    def release(self) -> None:
        """Give both pieces of memory back."""
        self._array = None
        self._host.release()
        self._device.release()

    def _copy(self, target: int, source: int, kind: object, stream: Handle) -> None:
        outcome = self._cuda.cudaMemcpyAsync(target, source, self.size, kind, stream)
        check(self._cuda, outcome, self._doing)


def free_memory(cuda: CudaRuntime) -> str:
    """How much of the GPU's memory is free, in words."""
    code, free, total = cuda.cudaMemGetInfo()
    if code != cuda.cudaError_t.cudaSuccess:
        return "how much is free it does not say"
    return f"{_mb(free)} of {_mb(total)} are free"


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
