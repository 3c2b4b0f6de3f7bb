"""A CUDA runtime without a GPU that is stricter than the real one.

Device memory lies apart from the host's, behind addresses that only this module resolves. Nothing
happens before a stream is synchronised. What a GPU would answer with garbage or a crash is a
`StandInError`; what it would answer with an error code is that code.
"""

import enum
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

GARBAGE = 0xFF
"""Every byte of memory that nobody has written: no number, as a float."""


class StandInError(AssertionError):
    """Something that would corrupt memory, read garbage or crash on a GPU."""


class Status(enum.IntEnum):
    """`cudaError_t`; the values are the real ones."""

    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


class CopyKind(enum.IntEnum):
    """`cudaMemcpyKind`."""

    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class CaptureMode(enum.IntEnum):
    """`cudaStreamCaptureMode`."""

    cudaStreamCaptureModeThreadLocal = 1


class Block:
    """One allocation. `written` is how many bytes from its beginning have content."""

    def __init__(self, address: int, data: NDArray[np.uint8], *, pinned: bool) -> None:
        self.address = address
        self.data = data
        self.pinned = pinned
        self.written = len(data) if pinned else 0
        self.alive = True

    def read(self, offset: int, size: int) -> NDArray[np.uint8]:
        if not self.alive:
            raise StandInError("freed memory is read")
        if offset + size > self.written:
            raise StandInError(f"{size} bytes are read where {self.written} were written")
        return self.data[offset : offset + size]

    def write(self, offset: int, content: NDArray[np.uint8]) -> None:
        if not self.alive:
            raise StandInError("freed memory is written")
        if offset + len(content) > len(self.data):
            raise StandInError(f"{len(content)} bytes are written to {len(self.data)}")
        self.data[offset : offset + len(content)] = content
        self.written = max(self.written, offset + len(content))


class Operation:
    """Work for a stream. `begin` is called when it is enqueued, `run` when it is done."""

    touches: tuple[int, ...] = ()

    def begin(self) -> None:
        """Check and do what happens at once."""

    def run(self) -> None:
        """Do it."""


class Copy(Operation):
    """An asynchronous copy between pinned and device memory."""

    def __init__(self, cuda: "StandInCuda", target: int, source: int, size: int) -> None:
        self._cuda = cuda
        self._target, self._source, self._size = target, source, size
        self._seen = b""
        self.touches = (target, source)

    def begin(self) -> None:
        source, offset = self._cuda.find(self._source)
        target, start = self._cuda.find(self._target)
        if source.pinned:
            self._seen = source.read(offset, self._size).tobytes()
        if target.pinned:
            target.write(start, np.full(self._size, GARBAGE, np.uint8))

    def run(self) -> None:
        source, offset = self._cuda.find(self._source)
        content = source.read(offset, self._size)
        if source.pinned and content.tobytes() != self._seen:
            raise StandInError("pinned memory was overwritten while it was being copied")
        target, start = self._cuda.find(self._target)
        target.write(start, content)


class Stream:
    """A queue of operations, and what is being recorded of it."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.queue: list[Operation] = []
        self.user = 0
        self.recorded: list[Operation] | None = None
        self.invalidated = False

    def __int__(self) -> int:
        return self._number


class Graph:
    """Recorded operations, launchable or not yet."""

    def __init__(self, operations: list[Operation]) -> None:
        self.operations = operations

    def __int__(self) -> int:
        return id(self)


class StandInCuda:
    """The functions of `cuda.bindings.runtime` that `CudaRuntime` declares.

    Attributes:
        counts: how often each function was called, and `launches`, `executions`.
        fail: for a function's name, the code that it returns instead of working.
    """

    cudaError_t: Any = Status
    cudaMemcpyKind: Any = CopyKind
    cudaStreamCaptureMode: Any = CaptureMode
    cudaStreamNonBlocking = 1

    def __init__(self, memory: int = 1 << 40) -> None:
        self.memory = memory
        self.counts: Counter[str] = Counter()
        self.copied = 0
        self.fail: dict[str, Status] = {}
        self.held_by_engines = 0
        self._blocks: dict[int, Block] = {}
        self._freed: dict[int, Block] = {}
        self._next = 0x7000_0000_0000
        self._streams: dict[int, Stream] = {}
        self._graphs: set[Graph] = set()

    # What the session code calls.

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        return self._answer("cudaGetDeviceCount", lambda: 1)

    def cudaRuntimeGetVersion(self) -> tuple[Any, ...]:
        return Status.cudaSuccess, 13050

    def cudaMemGetInfo(self) -> tuple[Any, ...]:
        return self._answer("cudaMemGetInfo", lambda: self._free_bytes(), lambda: self.memory)

    def cudaGetErrorString(self, error: Any) -> tuple[Any, ...]:
        return Status.cudaSuccess, f"the text of {error.name}".encode()

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        if self._is_recording():
            return Status.cudaErrorStreamCaptureUnsupported, None
        if size > self._free_bytes():
            return Status.cudaErrorMemoryAllocation, None
        data = np.full(size, GARBAGE, np.uint8)
        address, self._next = self._next, self._next + (size + 0xFFF & ~0xFFF)
        self._blocks[address] = Block(address, data, pinned=False)
        return self._answer("cudaMalloc", lambda: address)

    def cudaMallocHost(self, size: int) -> tuple[Any, ...]:
        data = np.full(size, GARBAGE, np.uint8)
        address = data.ctypes.data
        if "cudaMallocHost" not in self.fail:
            self._blocks[address] = Block(address, data, pinned=True)
        return self._answer("cudaMallocHost", lambda: address)

    def cudaFree(self, devPtr: int) -> tuple[Any, ...]:
        self._release(devPtr, pinned=False)
        return self._answer("cudaFree")

    def cudaFreeHost(self, ptr: int) -> tuple[Any, ...]:
        self._release(ptr, pinned=True)
        return self._answer("cudaFreeHost")

    def cudaMemcpyAsync(
        self, dst: int, src: int, count: int, kind: Any, stream: Any
    ) -> tuple[Any, ...]:
        to_device = kind is CopyKind.cudaMemcpyHostToDevice
        if self.find(dst)[0].pinned == to_device or self.find(src)[0].pinned != to_device:
            raise StandInError(f"{kind.name} does not go between these two")
        self.counts[kind.name] += 1
        self.copied += count
        self.enqueue(stream, Copy(self, dst, src, count))
        return self._answer("cudaMemcpyAsync")

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        assert flags == self.cudaStreamNonBlocking, "the default stream waits for others"
        stream = Stream(1000 + len(self._streams))
        self._streams[int(stream)] = stream
        return self._answer("cudaStreamCreateWithFlags", lambda: stream)

    def cudaStreamSynchronize(self, stream: Any) -> tuple[Any, ...]:
        if stream.recorded is not None:
            stream.invalidated = True
            return (Status.cudaErrorStreamCaptureUnsupported,)
        queue, stream.queue = stream.queue, []
        for operation in queue:
            operation.run()
        return self._answer("cudaStreamSynchronize")

    def cudaStreamDestroy(self, stream: Any) -> tuple[Any, ...]:
        if stream.queue:
            raise StandInError("a stream is destroyed before its work is done")
        if self._streams.pop(int(stream), None) is None:
            raise StandInError("a stream is destroyed twice")
        return self._answer("cudaStreamDestroy")

    def cudaStreamBeginCapture(self, stream: Any, mode: Any) -> tuple[Any, ...]:
        assert mode is CaptureMode.cudaStreamCaptureModeThreadLocal
        stream.recorded, stream.invalidated = [], False
        return self._answer("cudaStreamBeginCapture")

    def cudaStreamEndCapture(self, stream: Any) -> tuple[Any, ...]:
        recorded, stream.recorded = stream.recorded, None
        if stream.invalidated or recorded is None:
            return Status.cudaErrorStreamCaptureInvalidated, None
        return self._answer("cudaStreamEndCapture", lambda: self._new_graph(recorded))

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[Any, ...]:
        assert flags == 0
        self._check_graph(graph)
        return self._answer("cudaGraphInstantiate", lambda: self._new_graph(graph.operations))

    def cudaGraphLaunch(self, graphExec: Any, stream: Any) -> tuple[Any, ...]:
        self._check_graph(graphExec)
        for operation in graphExec.operations:
            self.enqueue(stream, operation)
        return self._answer("cudaGraphLaunch")

    def cudaGraphDestroy(self, graph: Any) -> tuple[Any, ...]:
        self._check_graph(graph)
        self._graphs.remove(graph)
        return self._answer("cudaGraphDestroy")

    def cudaGraphExecDestroy(self, graphExec: Any) -> tuple[Any, ...]:
        self._check_graph(graphExec)
        if any(set(graphExec.operations) & set(each.queue) for each in self._streams.values()):
            raise StandInError("a graph is destroyed while it is running")
        self._graphs.remove(graphExec)
        return self._answer("cudaGraphExecDestroy")

    # What the stand-in of TensorRT and the tests call.

    def stream(self, handle: int) -> Stream:
        """The stream of a number that was handed out."""
        try:
            return self._streams[handle]
        except KeyError:
            raise StandInError("a stream is used that is not there") from None

    def enqueue(self, stream: Stream, operation: Operation) -> None:
        """Give work to a stream, or record it."""
        if stream.recorded is not None:
            stream.recorded.append(operation)
            return
        if stream.queue and stream.user != threading.get_ident():
            raise StandInError("two threads give work to one stream at once")
        stream.user = threading.get_ident()
        operation.begin()
        stream.queue.append(operation)

    def find(self, address: int) -> tuple[Block, int]:
        """The block that an address lies in, and its place there."""
        for blocks in (self._blocks, self._freed):
            for start, block in blocks.items():
                if start <= address < start + max(len(block.data), 1):
                    if not block.alive:
                        raise StandInError("freed memory is used")
                    return block, address - start
        raise StandInError(f"{address:#x} is no address of the device, nor pinned")

    def hold_for_engine(self, owner: object, size: int) -> bool:
        """Take memory that TensorRT allocates itself, until `owner` is gone."""
        if size > self._free_bytes():
            return False
        self.held_by_engines += size
        weakref.finalize(owner, self._let_go, size)
        return True

    def left_over(self) -> list[str]:
        """What was taken and not given back."""
        return list(self._left_over())

    def _left_over(self) -> Iterator[str]:
        for block in self._blocks.values():
            yield f"{len(block.data)} bytes of {'pinned' if block.pinned else 'device'} memory"
        if self._streams:
            yield f"{len(self._streams)} streams"
        if self._graphs:
            yield f"{len(self._graphs)} graphs"
        if self.held_by_engines:
            yield f"engines with {self.held_by_engines} bytes"

    def _let_go(self, size: int) -> None:
        self.held_by_engines -= size

    def _free_bytes(self) -> int:
        taken = sum(len(block.data) for block in self._blocks.values() if not block.pinned)
        return self.memory - taken - self.held_by_engines

    def _release(self, address: int, *, pinned: bool) -> None:
        block = self._blocks.get(address)
        if block is None or block.pinned != pinned:
            raise StandInError("memory is freed that is not allocated")
        end = address + len(block.data)
        for stream in self._streams.values():
            for operation in stream.queue:
                if any(address <= used < end for used in operation.touches):
                    raise StandInError("memory is freed while it is in use")
        block.alive = False
        block.data[:] = GARBAGE
        self._freed[address] = self._blocks.pop(address)

    def _new_graph(self, operations: list[Operation]) -> Graph:
        graph = Graph(operations)
        self._graphs.add(graph)
        return graph

    def _check_graph(self, graph: Graph) -> None:
        if graph not in self._graphs:
            raise StandInError("a CUDA graph is used that is not there")

    def _is_recording(self) -> bool:
        return any(stream.recorded is not None for stream in self._streams.values())

    def _answer(self, function: str, *values: Callable[[], Any]) -> tuple[Any, ...]:
        """Success with values, or the code that the test wants."""
        self.counts[function] += 1
        code = self.fail.get(function, Status.cudaSuccess)
        if code is not Status.cudaSuccess:
            return (code, *(None for _ in values))
        return (code, *(value() for value in values))
