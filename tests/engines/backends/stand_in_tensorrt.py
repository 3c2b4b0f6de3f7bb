"""TensorRT without a GPU: its engines run the plan's ONNX graph in ONNX Runtime's CPU provider.

A plan is a JSON text (see `plan_text`). As in TensorRT, what is refused returns False or None and
is logged; what would crash is a `StandInError`.
"""

import functools
import json
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engines.plans import Profile
from tests.engines.backends.graph_runner import GraphRunner, open_graph
from tests.engines.backends.stand_in_cuda import GARBAGE, Operation, StandInCuda, StandInError
from tests.engines.backends.stand_in_names import (
    AllocationStrategy,
    GraphStrategy,
    KernelStrategy,
    Severity,
    StandInLogger,
    TensorIOMode,
)
from tests.engines.backends.stand_in_refit import (
    StandInParserRefitter,
    StandInRefitter,
    graph_digest,
)

Shape = tuple[int, ...]


def plan_text(
    graph: Path,
    profiles: Sequence[Profile],
    *,
    stripped: bool = False,
    streamable: int = 0,
    memory: int = 1 << 20,
    missing: Sequence[str] = (),
    host_code: bool = False,
) -> bytes:
    """A plan of an ONNX graph.

    Args:
        graph: the graph that it runs.
        profiles: its optimisation profiles.
        stripped: whether it has to be refitted before it runs.
        streamable: bytes of its weights that may stay on the host.
        memory: bytes that it takes on the GPU.
        missing: weights that a refit from the graph will not find.
        host_code: whether it has code in it, as version-compatible plans have.
    """
    shapes = [
        {name: [each.min, each.opt, each.max] for name, each in profile.items()}
        for profile in profiles
    ]
    content = {
        "plan": "stand-in",
        "graph": str(graph),
        "sha256": graph_digest(graph),
        "profiles": shapes,
        "stripped": stripped,
        "streamable": streamable,
        "memory": memory,
        "missing": list(missing),
        "host_code": host_code,
    }
    return json.dumps(content).encode()


class StandInTensorRt:
    """The module, on a stand-in GPU. `for_rtx` makes it TensorRT for RTX.

    Attributes:
        loggers: the ids of those that runtimes were made with.
        compiled: the shapes that kernels were compiled for.
        graph_strategies: of each execution context.
        profiles: the ones that were selected.
        refuses_recording: whether engines can be recorded as CUDA graphs.
        refusals: what is logged when a method is called that is to be refused, by its name.
    """

    TensorIOMode: Any = TensorIOMode
    ExecutionContextAllocationStrategy: Any = AllocationStrategy
    CudaGraphStrategy: Any = GraphStrategy
    DynamicShapesKernelSpecializationStrategy: Any = KernelStrategy
    ILogger: type[Any] = StandInLogger

    def __init__(self, cuda: StandInCuda, version: str = "11.4.0", *, for_rtx: bool) -> None:
        self.__version__ = version
        self.cuda = cuda
        self.for_rtx = for_rtx
        self.loggers: set[int] = set()
        self.compiled: list[str] = []
        self.graph_strategies: list[str] = []
        self.profiles: list[int] = []
        self.refuses_recording = for_rtx
        self.refusals: dict[str, str] = {}
        self.Runtime: Any = functools.partial(StandInRuntime, self)
        self.Refitter: Any = StandInRefitter
        self.OnnxParserRefitter: Any = StandInParserRefitter

    def nptype(self, trt_type: Any) -> Any:
        return trt_type.type


class StandInRuntime:
    """`Runtime`."""

    def __init__(self, module: StandInTensorRt, logger: Any) -> None:
        self._module, self._logger = module, logger
        module.loggers.add(id(logger))
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized_engine: Any) -> "StandInEngine | None":
        try:
            plan = json.loads(bytes(serialized_engine))
        except ValueError:
            self._logger.log(Severity.ERROR, "this is no engine file")
            return None
        if plan["host_code"] and not self.engine_host_code_allowed:
            self._logger.log(Severity.ERROR, "the engine has code in it, which is not allowed")
            return None
        engine = StandInEngine(self._module, self._logger, plan)
        if not self._module.cuda.hold_for_engine(engine, plan["memory"]):
            self._logger.log(Severity.ERROR, "out of memory")
            return None
        return engine


class StandInRuntimeCache:
    """`IRuntimeCache`: the names of shapes that were compiled, for one version."""

    def __init__(self, version: str) -> None:
        self._version = version
        self.shapes: list[str] = []

    def serialize(self) -> bytes:
        return json.dumps([self._version, self.shapes]).encode()

    def deserialize(self, blob: bytes) -> bool:
        try:
            version, shapes = json.loads(blob)
        except ValueError:
            return False
        if version != self._version:
            return False
        self.shapes = shapes
        return True


class StandInConfig:
    """`IRuntimeConfig`."""

    def __init__(self, module: StandInTensorRt) -> None:
        self._module = module
        self.strategy: object = None
        self.cuda_graph_strategy: Any = GraphStrategy.DISABLED
        self.dynamic_shapes_kernel_specialization_strategy: Any = KernelStrategy.LAZY
        self.cache: StandInRuntimeCache | None = None

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> StandInRuntimeCache:
        assert self._module.for_rtx, "TensorRT has no runtime cache"
        return StandInRuntimeCache(self._module.__version__)

    def set_runtime_cache(self, cache: Any) -> bool:
        self.cache = cache
        return True


class StandInEngine:
    """`ICudaEngine`."""

    def __init__(self, module: StandInTensorRt, logger: Any, plan: dict[str, Any]) -> None:
        self.module, self.logger, self.plan = module, logger, plan
        self.runner: GraphRunner = open_graph(Path(plan["graph"]))
        self.has_weights = not plan["stripped"]
        self.budget: int | None = None
        self.contexts = 0
        self._names = [*self.runner.inputs, *self.runner.outputs]
        self.num_io_tensors = len(self._names)
        self.num_optimization_profiles = len(plan["profiles"])
        self.streamable_weights_size = plan["streamable"]

    @property
    def weight_streaming_budget_v2(self) -> int:
        return self.budget or 0

    @weight_streaming_budget_v2.setter
    def weight_streaming_budget_v2(self, size: int) -> None:
        assert self.contexts == 0, "the budget is set while contexts exist"
        self.budget = size

    def get_weight_streaming_automatic_budget(self) -> int:
        return int(self.streamable_weights_size // 2)

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return working_size([entry[2] for entry in self.plan["profiles"][profile_index].values()])

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def get_tensor_mode(self, name: str) -> Any:
        return TensorIOMode.INPUT if name in self.runner.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return self.runner.dtype(name)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Sequence[int]]:
        return list(self.plan["profiles"][profile_index][name])

    def create_runtime_config(self) -> StandInConfig:
        return StandInConfig(self.module)

    def create_execution_context(self, runtime_config: Any) -> "StandInContext | None":
        refusal = self.module.refusals.get("create_execution_context")
        if not self.has_weights:
            refusal = "the engine has no weights"
        if refusal is not None:
            self.logger.log(Severity.ERROR, refusal)
            return None
        assert runtime_config.strategy is AllocationStrategy.USER_MANAGED
        kernels = runtime_config.dynamic_shapes_kernel_specialization_strategy
        if self.module.for_rtx and kernels is not KernelStrategy.EAGER:
            raise StandInError("kernels may be exchanged in the middle of a picture")
        self.contexts += 1
        self.module.graph_strategies.append(runtime_config.cuda_graph_strategy.name)
        return StandInContext(self, runtime_config)


class StandInContext:
    """`IExecutionContext`."""

    def __init__(self, engine: StandInEngine, config: StandInConfig) -> None:
        self._engine = engine
        self._config = config
        self._profile: int | None = None
        self._memory = (0, 0)
        self._addresses: dict[str, int] = {}
        self._deferred = True
        self.shapes: dict[str, Shape] = {}

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if not 0 <= profile_index < self._engine.num_optimization_profiles:
            return self._refuse(f"there is no profile {profile_index}")
        self._engine.module.cuda.stream(stream_handle)
        self._profile = profile_index
        self._engine.module.profiles.append(profile_index)
        self.shapes = {}
        return True

    def set_input_shape(self, name: str, shape: Shape) -> bool:
        if self._profile is None:
            raise StandInError("a shape is set before a profile is selected")
        least, _, most = self._engine.plan["profiles"][self._profile][name]
        inside = [low <= size <= high for low, size, high in zip(least, shape, most, strict=True)]
        if not all(inside):
            return self._refuse(f"{name} {shape} is outside of profile {self._profile}")
        self.shapes[name] = shape
        self._deferred = True
        return True

    def get_tensor_shape(self, name: str) -> Shape:
        shapes = {**self.shapes}
        if set(shapes) == set(self._engine.runner.inputs):
            shapes.update(self._engine.runner.output_shapes(shapes))
        return shapes.get(name, (-1,))

    def update_device_memory_size_for_shapes(self) -> int:
        if set(self.shapes) != set(self._engine.runner.inputs):
            raise StandInError("working memory is asked for before all shapes are set")
        return working_size(self.shapes.values())

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory % 256 == 0, "device memory must be aligned"
        self._memory = (memory, size)
        self._deferred = True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in {*self._engine.runner.inputs, *self._engine.runner.outputs}:
            return self._refuse(f"there is no tensor {name}")
        self._addresses[name] = memory
        self._deferred = True
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        cuda = self._engine.module.cuda
        stream = cuda.stream(stream_handle)
        refusal = self._engine.module.refusals.get("execute_async_v3")
        if refusal is not None:
            return self._refuse(refusal)
        tensors = {*self._engine.runner.inputs, *self._engine.runner.outputs}
        missing = sorted(name for name in tensors if not self._addresses.get(name))
        if missing:
            return self._refuse(f"no address is set for {', '.join(missing)}")
        if self._memory[1] < self.update_device_memory_size_for_shapes():
            return self._refuse(f"{self._memory[1]} bytes of working memory are too few")
        if stream.recorded is not None:
            if self._engine.module.refuses_recording:
                stream.invalidated = True
                return self._refuse("this engine allocates while it runs")
            if self._deferred:
                raise StandInError("a graph is recorded before deferred work was done")
        self._deferred = False
        self._compile()
        run = Execution(self, self._engine, self.shapes, self._addresses, self._memory)
        cuda.enqueue(stream, run)
        return True

    def _compile(self) -> None:
        """What TensorRT for RTX does at new shapes, unless its cache knows them."""
        cache = self._config.cache
        if cache is not None and str(self.shapes) not in cache.shapes:
            cache.shapes.append(str(self.shapes))
            self._engine.module.compiled.append(str(self.shapes))

    def _refuse(self, message: str) -> bool:
        self._engine.logger.log(Severity.ERROR, message)
        return False


class Execution(Operation):
    """One run of a context, with the shapes and addresses that it had when it was enqueued."""

    def __init__(
        self,
        context: StandInContext,
        engine: StandInEngine,
        shapes: dict[str, Shape],
        addresses: dict[str, int],
        memory: tuple[int, int],
    ) -> None:
        self._context = weakref.ref(context)
        self._engine = engine
        self._shapes = dict(shapes)
        self._addresses = dict(addresses)
        self._memory = memory
        self.touches = (*addresses.values(), memory[0])

    def begin(self) -> None:
        context = self._context()
        if context is None:
            raise StandInError("the context of a CUDA graph is gone")
        if context.shapes != self._shapes:
            raise StandInError("a CUDA graph is launched that was recorded for other shapes")
        for name in self._engine.runner.outputs:
            block, offset = self._engine.module.cuda.find(self._addresses[name])
            block.data[offset:] = GARBAGE

    def run(self) -> None:
        if self._context() is None:
            raise StandInError("a context is released while it runs")
        cuda, runner = self._engine.module.cuda, self._engine.runner
        working, start = cuda.find(self._memory[0])
        working.write(start, np.full(self._memory[1], GARBAGE, np.uint8))
        feeds = {}
        for name in runner.inputs:
            block, offset = cuda.find(self._addresses[name])
            dtype = runner.dtype(name)
            size = int(np.prod(self._shapes[name])) * dtype.itemsize
            raw = block.read(offset, size).tobytes()
            feeds[name] = np.frombuffer(raw, dtype).reshape(self._shapes[name])
        for name, array in runner.run(feeds).items():
            block, offset = cuda.find(self._addresses[name])
            block.write(offset, np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        cuda.counts["executions"] += 1


def working_size(shapes: Any) -> int:
    """How much working memory a run with inputs of these shapes takes."""
    return 1000 + 3 * sum(int(np.prod(shape)) for shape in shapes)
