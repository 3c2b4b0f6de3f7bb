"""What is used of CUDA: a few functions of `cuda.bindings.runtime`, and its errors as ours.

Every function returns a tuple whose first value is the error code. Pointers are integers; streams
and graphs are handles that only CUDA looks into.
"""

from typing import Any, Protocol, SupportsInt, cast

from engines.cuda_driver import Driver
from engines.errors import BackendError, OutOfMemoryError

Handle = SupportsInt
Outcome = tuple[Any, ...]


class CudaErrorNames(Protocol):
    """Members of `cudaError_t`."""

    cudaSuccess: Any
    cudaErrorMemoryAllocation: Any
    cudaErrorInsufficientDriver: Any


class CudaMemcpyKindNames(Protocol):
    """Members of `cudaMemcpyKind`."""

    cudaMemcpyHostToDevice: Any
    cudaMemcpyDeviceToHost: Any


class CudaStreamCaptureModeNames(Protocol):
    """Members of `cudaStreamCaptureMode`."""

    cudaStreamCaptureModeThreadLocal: Any


class CudaRuntime(Protocol):
    """The functions and constants of the CUDA runtime that the TensorRT sessions use."""

    cudaError_t: CudaErrorNames
    cudaMemcpyKind: CudaMemcpyKindNames
    cudaStreamCaptureMode: CudaStreamCaptureModeNames
    cudaStreamNonBlocking: int

    def cudaGetDeviceCount(self) -> Outcome: ...
    def cudaRuntimeGetVersion(self) -> Outcome: ...
    def cudaMemGetInfo(self) -> Outcome: ...
    def cudaGetErrorString(self, error: Any) -> Outcome: ...
    def cudaMalloc(self, size: int) -> Outcome: ...
    def cudaFree(self, devPtr: int) -> Outcome: ...
    def cudaMallocHost(self, size: int) -> Outcome: ...
    def cudaFreeHost(self, ptr: int) -> Outcome: ...
    def cudaMemcpyAsync(
        self, dst: int, src: int, count: int, kind: Any, stream: Handle
    ) -> Outcome: ...
    def cudaStreamCreateWithFlags(self, flags: int) -> Outcome: ...
    def cudaStreamSynchronize(self, stream: Handle) -> Outcome: ...
    def cudaStreamDestroy(self, stream: Handle) -> Outcome: ...
    def cudaStreamBeginCapture(self, stream: Handle, mode: Any) -> Outcome: ...
    def cudaStreamEndCapture(self, stream: Handle) -> Outcome: ...
    def cudaGraphInstantiate(self, graph: Handle, flags: int) -> Outcome: ...
    def cudaGraphLaunch(self, graphExec: Handle, stream: Handle) -> Outcome: ...
    def cudaGraphDestroy(self, graph: Handle) -> Outcome: ...
    def cudaGraphExecDestroy(self, graphExec: Handle) -> Outcome: ...


def load_cuda() -> CudaRuntime:
    """The real CUDA runtime; importing it needs no driver.

    Raises:
        ImportError: the package cuda-bindings is not installed.
    """
    from cuda.bindings import runtime

    return cast(CudaRuntime, runtime)


class CudaError(BackendError):
    """A CUDA function failed; `code` is its `cudaError_t`."""

    def __init__(self, doing: str, code: Any, reason: str) -> None:
        super().__init__(f"CUDA failed {doing}: {reason} ({code.name}).")
        self.code = code


class CudaMemoryError(CudaError, OutOfMemoryError):
    """The GPU, or the pinned memory beside it, is too small for what was asked."""


def check(cuda: CudaRuntime, outcome: Outcome, doing: str) -> Any:
    """The value that a CUDA function returned, or None where it returns nothing but its code.

    Args:
        cuda: the runtime that was called.
        outcome: what it returned.
        doing: what it was called for, to follow "failed".

    Raises:
        CudaError: the code is not success; CudaMemoryError where memory was short.
    """
    code, *values = outcome
    if code != cuda.cudaError_t.cudaSuccess:
        _, text = cuda.cudaGetErrorString(code)
        short = code == cuda.cudaError_t.cudaErrorMemoryAllocation
        raise (CudaMemoryError if short else CudaError)(doing, code, text.decode())
    return values[0] if values else None


def check_driver(cuda: CudaRuntime, driver: Driver) -> None:
    """Make sure that the CUDA runtime works with the driver; nothing is loaded onto the GPU.

    Raises:
        BackendError: the driver is too old for it, or it sees no GPU.
    """
    code, count = cuda.cudaGetDeviceCount()
    if code == cuda.cudaError_t.cudaErrorInsufficientDriver:
        wanted = check(cuda, cuda.cudaRuntimeGetVersion(), "asking for its version")
        raise BackendError(
            f"the NVIDIA driver runs CUDA up to {driver.cuda[0]}.{driver.cuda[1]}, and these "
            f"cuda-bindings need {wanted // 1000}.{wanted % 1000 // 10}; update the driver"
        )
    if check(cuda, (code, count), "counting GPUs") == 0:
        raise BackendError("CUDA sees no GPU; check CUDA_VISIBLE_DEVICES and `nvidia-smi`")
