"""Loading a plan: reading it, giving it its weights, deciding where they stay."""

import logging
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np

from engines.backends.shortage import failure_kind
from engines.backends.trt_api import (
    ICudaEngine,
    IExecutionContext,
    IRuntimeConfig,
    RtxIRuntimeConfig,
    RtxTensorRt,
)
from engines.backends.trt_kernels import KernelCache
from engines.backends.trt_machine import Machine
from engines.backends.trt_memory import free_memory
from engines.backends.trt_profiles import read_profiles
from engines.backends.trt_refit import refit
from engines.errors import BackendError, InternalError
from engines.manifest import ComponentSpec
from engines.plans import Plan, Profile

_log = logging.getLogger(__name__)

HEADROOM: Final = 256 << 20
"""Bytes that stay free for CUDA itself and for inputs and outputs."""


@dataclass(frozen=True)
class PlanSource:
    """A plan in a bundle: its file, what plans.json says of it, and the graph it was built from.

    `reserved` are the bytes that the bundle's other plans will take on the GPU. A plan that is
    `version_compatible` has code of the library that it was built with in it, which is run.
    """

    component: str
    file: Path
    plan: Plan
    graph: Path
    reserved: int
    version_compatible: bool


class Engine:
    """A plan on the GPU, ready to make execution contexts.

    Attributes:
        profiles: its optimisation profiles.
        resident_weights: bytes of weights that stay on the GPU; None where all of them do.
    """

    def __init__(self, machine: Machine, source: PlanSource, spec: ComponentSpec) -> None:
        """Load the plan.

        Raises:
            BackendError: TensorRT refuses the plan or its weights, or it has other tensors than the
                bundle's graph.
            OutOfMemoryError: TensorRT says that memory was short.
        """
        self._machine = machine
        self._kernels: KernelCache | None = None
        self._engine: ICudaEngine | None = _read(machine, source)
        self._config: IRuntimeConfig | None = None
        _check_tensors(machine, self._engine, source, spec)
        if source.plan.stripped:
            refit(machine, self._engine, source.graph)
        self.resident_weights = _place_weights(machine, self._engine, source)
        self.profiles: tuple[Profile, ...] = read_profiles(
            self._engine, [tensor.name for tensor in spec.inputs]
        )
        self._config = self._configure(self._engine, source.plan.sha256)

    def new_context(self) -> IExecutionContext:
        """Make an execution context that gets its working memory from us.

        Raises:
            BackendError: TensorRT cannot make one; OutOfMemoryError where it says that memory was
                short.
        """
        if self._engine is None or self._config is None:
            raise InternalError("an engine was used after its release")
        context = self._engine.create_execution_context(self._config)
        if context is None:
            reasons = self._machine.library.reasons()
            raise failure_kind(reasons)(
                f"TensorRT cannot make an execution context: {reasons}; "
                f"{free_memory(self._machine.cuda)}."
            )
        return context

    def save_kernels(self) -> None:
        """Keep what was compiled for this machine, where the library compiles here."""
        if self._kernels is not None:
            self._kernels.save()

    def release(self) -> None:
        """Give the engine back, after its contexts; a second call does nothing."""
        self._kernels = None
        self._config = None
        self._engine = None

    def _configure(self, engine: ICudaEngine, sha256: str) -> IRuntimeConfig:
        library = self._machine.library
        config = engine.create_runtime_config()
        strategies = library.module.ExecutionContextAllocationStrategy
        config.set_execution_context_allocation_strategy(strategies.USER_MANAGED)
        if library.for_rtx:
            names = cast(RtxTensorRt, library.module)
            rtx = cast(RtxIRuntimeConfig, config)
            graphs = names.CudaGraphStrategy
            rtx.cuda_graph_strategy = (
                graphs.WHOLE_GRAPH_CAPTURE if self._machine.graphs else graphs.DISABLED
            )
            # The other strategies change kernels while a picture is being made.
            kernels = names.DynamicShapesKernelSpecializationStrategy
            rtx.dynamic_shapes_kernel_specialization_strategy = kernels.EAGER
            self._kernels = KernelCache(rtx, self._machine, sha256)
        return config


def _read(machine: Machine, source: PlanSource) -> ICudaEngine:
    machine.runtime.engine_host_code_allowed = source.version_compatible
    try:
        with (
            source.file.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            engine = machine.runtime.deserialize_cuda_engine(content)
    except (OSError, ValueError) as error:
        raise failure_kind(error)(f"The plan {source.file} cannot be read: {error}.") from error
    if engine is None:
        reasons = machine.library.reasons()
        raise failure_kind(reasons)(
            f"TensorRT cannot load {source.file}: {reasons}; {free_memory(machine.cuda)}."
        )
    return engine


def _check_tensors(
    machine: Machine, engine: ICudaEngine, source: PlanSource, spec: ComponentSpec
) -> None:
    """Compare the engine's inputs and outputs with the bundle's."""
    module = machine.library.module
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    there = {
        (
            name,
            engine.get_tensor_mode(name) == module.TensorIOMode.INPUT,
            np.dtype(module.nptype(engine.get_tensor_dtype(name))).name,
        )
        for name in names
    }
    wanted = {
        (tensor.name, is_input, tensor.dtype)
        for is_input, tensors in ((True, spec.inputs), (False, spec.outputs))
        for tensor in tensors
    }
    if there != wanted:
        differing = sorted({name for name, _, _ in there ^ wanted})
        raise BackendError(
            f"{source.file} does not fit the bundle: {', '.join(differing)} differ in name, dtype "
            "or direction. Build the plans again."
        )


def _place_weights(machine: Machine, engine: ICudaEngine, source: PlanSource) -> int | None:
    """Keep the weights on the GPU where they fit, else stream what does not fit from the host.

    Returns:
        The bytes that stay, of a plan that was built for streaming.
    """
    streamable = engine.streamable_weights_size
    if streamable == 0:
        return None
    free, _ = machine.memory()
    working = min(
        engine.get_device_memory_size_for_profile_v2(index)
        for index in range(engine.num_optimization_profiles)
    )
    budget = streamable
    if streamable + working + source.reserved + HEADROOM > free:
        budget = engine.get_weight_streaming_automatic_budget()
        _log.warning(
            "%s keeps %.0f of %.0f MB of its weights on the GPU and streams the rest: "
            "%.0f MB are free",
            source.component,
            budget / 1e6,
            streamable / 1e6,
            free / 1e6,
        )
    engine.weight_streaming_budget_v2 = budget
    return budget
