"""A TensorRT plan as a session: inputs copied where they changed, run, outputs copied back."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from engines.backends.trt_context import ShapeContext
from engines.backends.trt_engine import Engine
from engines.backends.trt_machine import Machine
from engines.backends.trt_memory import TensorMemory
from engines.backends.trt_profiles import choose_profile
from engines.errors import InternalError
from engines.manifest import ComponentSpec
from engines.session import Array, Session

_CONTEXTS: Final = 8
"""Sets of shapes that a session remembers, each with its context and CUDA graph."""


class TrtSession(Session):
    """One plan on the GPU. What `run` returns lies in pinned memory of the session."""

    def __init__(
        self,
        machine: Machine,
        engine: Engine,
        component: str,
        spec: ComponentSpec,
        on_close: Callable[[], None],
    ) -> None:
        """Run one plan.

        Args:
            machine: what the sessions share.
            engine: the plan, which the session then owns.
            component: whose it is.
            spec: its entry in the manifest.
            on_close: called once, at the end.
        """
        super().__init__(spec)
        self._machine = machine
        self._engine = engine
        self._component = component
        self._on_close: Callable[[], None] | None = on_close
        self._contexts: OrderedDict[tuple[tuple[int, ...], ...], ShapeContext] = OrderedDict()
        cuda = machine.cuda
        self._in = {each.name: TensorMemory(cuda, each, component) for each in spec.inputs}
        self._out = {each.name: TensorMemory(cuda, each, component) for each in spec.outputs}
        self._unsent: set[str] = set()

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        if self._on_close is None:
            raise InternalError(f"the session of {self._component} was used after its release")
        machine = self._machine
        with machine.lock:
            try:
                for name, array in feeds.items():
                    self._write(name, array)
                is_new, context = self._context()
                outputs = {
                    name: memory.shape_as(context.outputs[name])
                    for name, memory in self._out.items()
                }
                for name in self._unsent:
                    self._in[name].upload(machine.stream)
                memories = {**self._in, **self._out}
                context.enqueue({name: memory.address for name, memory in memories.items()})
                for memory in self._out.values():
                    memory.download(machine.stream)
            finally:
                machine.synchronise()
            self._unsent.clear()
            if is_new:
                self._engine.save_kernels()
            return outputs

    def close(self) -> None:
        """Release contexts, engine and memory; a second call does nothing."""
        if self._on_close is None:
            return
        on_close, self._on_close = self._on_close, None
        try:
            with self._machine.lock:
                for context in self._contexts.values():
                    context.release()
                self._contexts.clear()
                self._engine.release()
                for memory in (*self._in.values(), *self._out.values()):
                    memory.release()
        finally:
            on_close()

    def _write(self, name: str, array: Array) -> None:
        """Put an input into its pinned memory, and note that the GPU does not have it yet."""
        memory = self._in[name]
        if memory.holds(array):
            return
        self._unsent.add(name)
        memory.shape_as(array.shape)[...] = array

    def _context(self) -> tuple[bool, ShapeContext]:
        """The context for the bound shapes, and whether it is new."""
        shapes = {tensor.name: self._shapes[tensor.name] for tensor in self.inputs}
        key = tuple(shapes.values())
        known = self._contexts.get(key)
        if known is not None:
            self._contexts.move_to_end(key)
            return False, known
        profile = choose_profile(self._component, self._engine.profiles, shapes)
        if len(self._contexts) == _CONTEXTS:
            self._contexts.popitem(last=False)[1].release()
        context = ShapeContext(
            self._machine, self._engine, profile, shapes, self._out, self._component
        )
        self._contexts[key] = context
        return True, context
