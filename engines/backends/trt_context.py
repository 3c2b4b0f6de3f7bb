"""One execution context for one set of input shapes, with the CUDA graph that was made of it.

A CUDA graph has the shapes and addresses in it that it was recorded with, so each set of shapes
gets a context and a graph of its own, as NVIDIA's guides advise.
"""

from collections.abc import Iterable, Mapping

from engines.backends.shortage import failure_kind
from engines.backends.trt_api import IExecutionContext
from engines.backends.trt_engine import Engine
from engines.backends.trt_graphs import CapturedGraph, capture
from engines.backends.trt_machine import Machine
from engines.backends.trt_profiles import Shapes
from engines.errors import BackendError, InternalError


class ShapeContext:
    """An engine's way to run inputs of one set of shapes.

    Attributes:
        outputs: the shape of every output.
    """

    def __init__(
        self,
        machine: Machine,
        engine: Engine,
        profile: int,
        shapes: Shapes,
        outputs: Iterable[str],
        what: str,
    ) -> None:
        """Make a context of a profile and give it the inputs' shapes.

        Args:
            machine: the GPU.
            engine: the loaded plan.
            profile: the index of a profile that takes the shapes.
            shapes: the shape of every input.
            outputs: the names of all outputs.
            what: the component, named in errors.

        Raises:
            BackendError: TensorRT refuses; OutOfMemoryError where it says that memory was short.
        """
        self._machine = machine
        self._what = what
        self._graph: CapturedGraph | None = None
        self._addresses: dict[str, int] = {}
        self._working_memory = (0, 0)
        self._runs = 0
        self._capturable = machine.graphs and not machine.library.for_rtx
        context = engine.new_context()
        stream = int(machine.stream)
        self._expect(
            context.set_optimization_profile_async(profile, stream), f"selecting profile {profile}"
        )
        for name, shape in shapes.items():
            self._expect(context.set_input_shape(name, shape), f"setting the shape of {name}")
        self.outputs = {name: tuple(context.get_tensor_shape(name)) for name in outputs}
        if any(size < 0 for shape in self.outputs.values() for size in shape):
            raise BackendError(f"TensorRT does not know the shapes of the outputs of {what}.")
        self._needed = context.update_device_memory_size_for_shapes()
        self._context: IExecutionContext | None = context

    def enqueue(self, addresses: Mapping[str, int]) -> None:
        """Give one run to the machine's stream; the caller holds its lock.

        The first run at new addresses is given directly: TensorRT does then what it has deferred.
        From the second on a CUDA graph is launched, except with TensorRT for RTX, which makes its
        own.

        Args:
            addresses: where every input and output is on the device.

        Raises:
            BackendError: TensorRT or CUDA refuses; OutOfMemoryError where it says that memory was
                short.
        """
        self._place(addresses)
        machine = self._machine
        if self._graph is None and self._runs and self._capturable:
            self._graph = capture(machine.cuda, machine.stream, self._execute, self._what)
            self._capturable = self._graph is not None
        if self._graph is None:
            self._execute()
        else:
            self._graph.launch(machine.stream)
        self._runs += 1

    def release(self) -> None:
        """Give the graph and the context back; a second call does nothing."""
        self._drop_graph()
        self._context = None

    def _place(self, addresses: Mapping[str, int]) -> None:
        """Tell the context where its memory is, where that has changed."""
        working = self._machine.working_memory
        working.reserve(max(self._needed, 1))
        context = self._open()
        place = (working.address, working.size)
        if place == self._working_memory and addresses == self._addresses:
            return
        self._drop_graph()
        context.set_device_memory(*place)
        for name, address in addresses.items():
            self._expect(context.set_tensor_address(name, address), f"placing {name}")
        self._working_memory = place
        self._addresses = dict(addresses)

    def _execute(self) -> None:
        accepted = self._open().execute_async_v3(int(self._machine.stream))
        self._expect(accepted, "being enqueued")

    def _drop_graph(self) -> None:
        graph, self._graph = self._graph, None
        self._runs = 0
        if graph is not None:
            graph.release()

    def _open(self) -> IExecutionContext:
        if self._context is None:
            raise InternalError(f"the context of {self._what} was used after its release")
        return self._context

    def _expect(self, accepted: bool, doing: str) -> None:
        if not accepted:
            reasons = self._machine.library.reasons()
            raise failure_kind(reasons)(f"TensorRT refuses {self._what} while {doing}: {reasons}.")
