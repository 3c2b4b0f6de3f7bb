"""What is used of TensorRT to build plans, under the names of its Python modules.

`tensorrt` and `tensorrt_rtx` have one API but for what the classes below that begin with Rtx add:
those names are in TensorRT for RTX alone.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol


class ILogger(Protocol):
    """Takes TensorRT's messages; subclassed, and told the severities that it names."""

    ERROR: Any
    WARNING: Any

    def log(self, severity: Any, msg: str) -> None: ...


class IProgressMonitor(Protocol):
    """Told of the phases of a build, which are nested; subclassed."""

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None: ...
    def step_complete(self, phase_name: str, step: int) -> bool: ...
    def phase_finish(self, phase_name: str) -> None: ...


class IStreamWriter(Protocol):
    """Takes a plan's bytes; subclassed."""

    def write(self, data: bytes) -> int: ...


class IHostMemory(Protocol):
    """Bytes that TensorRT owns; it has the buffer protocol."""

    nbytes: int

    def __buffer__(self, flags: int, /) -> memoryview: ...


class ITimingCache(Protocol):
    """What was measured of kernels on this GPU."""

    def serialize(self) -> IHostMemory: ...


class IOptimizationProfile(Protocol):
    """The ranges of a network's inputs; false where they are out of order."""

    def set_shape(
        self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]
    ) -> None: ...
    def __bool__(self) -> bool: ...


class IBuilderConfig(Protocol):
    """How a plan is built."""

    progress_monitor: Any
    builder_optimization_level: int
    hardware_compatibility_level: Any

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int: ...
    def set_flag(self, flag: Any) -> None: ...
    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None: ...
    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None: ...
    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool: ...
    def get_timing_cache(self) -> ITimingCache | None: ...


class RtxIBuilderConfig(IBuilderConfig, Protocol):
    """What TensorRT for RTX adds: the architectures that a plan is for."""

    num_compute_capabilities: int

    def set_compute_capability(self, compute_capability: Any, index: int) -> bool: ...


class INetworkDefinition(Protocol):
    """A network that was read; a parser does not keep it alive."""

    num_layers: int


class Builder(Protocol):
    """Makes networks, configurations and plans."""

    def create_network(self, flags: int) -> INetworkDefinition: ...
    def create_builder_config(self) -> IBuilderConfig: ...
    def create_optimization_profile(self) -> IOptimizationProfile: ...
    def build_serialized_network_to_stream(
        self, network: INetworkDefinition, config: IBuilderConfig, writer: Any
    ) -> bool: ...


class ParserError(Protocol):
    """What the ONNX parser has against a node."""

    def desc(self) -> str: ...
    def func(self) -> str: ...
    def node(self) -> int: ...
    def node_name(self) -> str: ...
    def node_operator(self) -> str: ...


class OnnxParser(Protocol):
    """Reads an ONNX graph and its weights into a network, which has to be held beside it."""

    num_errors: int

    def parse_from_file(self, model: str) -> bool: ...
    def get_error(self, index: int) -> ParserError: ...


class BuilderFlag(Protocol):
    """Switches of a build."""

    DISTRIBUTIVE_INDEPENDENCE: Any
    REFIT_IDENTICAL: Any
    STRIP_PLAN: Any
    VERSION_COMPATIBLE: Any
    WEIGHT_STREAMING: Any


class HardwareCompatibilityLevel(Protocol):
    """Which other GPUs a plan runs on."""

    AMPERE_PLUS: Any
    SAME_COMPUTE_CAPABILITY: Any


class MemoryPoolType(Protocol):
    """What memory is limited."""

    WORKSPACE: Any


MakeBuilder = Callable[[Any], Builder]
MakeOnnxParser = Callable[[INetworkDefinition, Any], OnnxParser]


class TensorRt(Protocol):
    """The module `tensorrt` or `tensorrt_rtx`. Its classes are made with a logger."""

    __version__: str
    ILogger: type[Any]
    IProgressMonitor: type[Any]
    IStreamWriter: type[Any]
    Builder: MakeBuilder
    OnnxParser: MakeOnnxParser
    BuilderFlag: BuilderFlag
    HardwareCompatibilityLevel: HardwareCompatibilityLevel
    MemoryPoolType: MemoryPoolType


class RtxTensorRt(TensorRt, Protocol):
    """The names that `tensorrt_rtx` alone has."""

    ComputeCapability: Any
