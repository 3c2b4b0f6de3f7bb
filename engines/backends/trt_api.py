"""What is used of TensorRT, under the names of its Python modules.

`tensorrt` and `tensorrt_rtx` have one API but for what the classes below that begin with Rtx add:
those names are in TensorRT for RTX alone. Classes that end with Names are enumerations.
"""

import mmap
from collections.abc import Callable, Sequence
from typing import Any, Protocol


class TensorIOModeNames(Protocol):
    """Members of `TensorIOMode`."""

    INPUT: Any


class ExecutionContextAllocationStrategyNames(Protocol):
    """Members of `ExecutionContextAllocationStrategy`."""

    USER_MANAGED: Any


class RtxCudaGraphStrategyNames(Protocol):
    """Members of `CudaGraphStrategy`."""

    DISABLED: Any
    WHOLE_GRAPH_CAPTURE: Any


class RtxDynamicShapesKernelSpecializationStrategyNames(Protocol):
    """Members of `DynamicShapesKernelSpecializationStrategy`."""

    EAGER: Any


class ILogger(Protocol):
    """Takes TensorRT's messages; subclassed, and told the severities that it names."""

    ERROR: Any
    WARNING: Any

    def log(self, severity: Any, msg: str) -> None: ...


class IRuntimeConfig(Protocol):
    """How execution contexts are made."""

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None: ...


class IHostMemory(Protocol):
    """Bytes that TensorRT owns; it has the buffer protocol."""

    nbytes: int

    def __buffer__(self, flags: int, /) -> memoryview: ...


class RtxIRuntimeCache(Protocol):
    """Kernels that were compiled on this machine."""

    def serialize(self) -> IHostMemory | None: ...
    def deserialize(self, blob: bytes) -> bool: ...


class RtxIRuntimeConfig(IRuntimeConfig, Protocol):
    """What TensorRT for RTX adds: when kernels are compiled, and CUDA graphs of its own."""

    cuda_graph_strategy: Any
    dynamic_shapes_kernel_specialization_strategy: Any

    def create_runtime_cache(self) -> RtxIRuntimeCache: ...
    def set_runtime_cache(self, cache: RtxIRuntimeCache) -> bool: ...


class IExecutionContext(Protocol):
    """One way to run an engine: a profile, the inputs' shapes, and where every tensor is."""

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool: ...
    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool: ...
    def get_tensor_shape(self, name: str) -> Sequence[int]: ...
    def update_device_memory_size_for_shapes(self) -> int: ...
    def set_device_memory(self, memory: int, size: int) -> None: ...
    def set_tensor_address(self, name: str, memory: int) -> bool: ...
    def execute_async_v3(self, stream_handle: int) -> bool: ...


class ICudaEngine(Protocol):
    """A plan that was read, with its weights."""

    num_io_tensors: int
    num_optimization_profiles: int
    streamable_weights_size: int
    weight_streaming_budget_v2: int

    def get_tensor_name(self, index: int) -> str: ...
    def get_tensor_mode(self, name: str) -> Any: ...
    def get_tensor_dtype(self, name: str) -> Any: ...
    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Sequence[int]]: ...
    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int: ...
    def get_weight_streaming_automatic_budget(self) -> int: ...
    def create_runtime_config(self) -> IRuntimeConfig: ...
    def create_execution_context(
        self, runtime_config: IRuntimeConfig
    ) -> IExecutionContext | None: ...


class Runtime(Protocol):
    """Reads plans."""

    engine_host_code_allowed: bool

    def deserialize_cuda_engine(
        self, serialized_engine: bytes | mmap.mmap
    ) -> ICudaEngine | None: ...


class ParserError(Protocol):
    """What the ONNX parser has against a graph."""

    def desc(self) -> str: ...


class Refitter(Protocol):
    """Puts weights into an engine."""

    def get_missing_weights(self) -> list[str]: ...
    def refit_cuda_engine(self) -> bool: ...


class OnnxParserRefitter(Protocol):
    """Reads the weights for a `Refitter` from an ONNX graph."""

    num_errors: int

    def refit_from_file(self, model: str) -> bool: ...
    def get_error(self, index: int) -> ParserError: ...


MakeRuntime = Callable[[Any], Runtime]
MakeRefitter = Callable[[ICudaEngine, Any], Refitter]
MakeOnnxParserRefitter = Callable[[Refitter, Any], OnnxParserRefitter]


class TensorRt(Protocol):
    """The module `tensorrt` or `tensorrt_rtx`. Its classes are made with a logger."""

    __version__: str
    ILogger: type[Any]
    TensorIOMode: TensorIOModeNames
    ExecutionContextAllocationStrategy: ExecutionContextAllocationStrategyNames
    Runtime: MakeRuntime
    Refitter: MakeRefitter
    OnnxParserRefitter: MakeOnnxParserRefitter

    def nptype(self, trt_type: Any) -> Any: ...


class RtxTensorRt(TensorRt, Protocol):
    """The names that `tensorrt_rtx` alone has."""

    CudaGraphStrategy: RtxCudaGraphStrategyNames
    DynamicShapesKernelSpecializationStrategy: RtxDynamicShapesKernelSpecializationStrategyNames
