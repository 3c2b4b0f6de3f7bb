"""A session for engines that are faster on a graph of fixed sizes than on one of any size."""

from collections.abc import Callable, Mapping

import numpy as np

from engines.manifest import ComponentSpec
from engines.session import Array, Session

Compile = Callable[[Mapping[str, int]], Session]
"""Compiles a graph for a size of each of its dynamic axes."""

_BATCH = "batch"


class FixedSizesSession(Session):
    """Compiles the graph for the sizes that it is fed, and again when they change.

    Where the batch is dynamic the graph is compiled for one entry, and a batch is as many runs:
    that costs no more where batching brings nothing, and no batch is a reason to compile again.
    Only the last compilation is kept, because each one holds the weights: whoever feeds several
    sizes feeds all calls of one size before those of the next.
    """

    def __init__(self, spec: ComponentSpec, compile_for: Compile) -> None:
        super().__init__(spec)
        self._compile_for = compile_for
        self._compiled: Session | None = None
        self._sizes: Mapping[str, int] = {}
        self._bound: dict[str, Array] = {}
        self._gathered: dict[str, Array] = {}
        self._one_by_one = any(_BATCH in tensor.shape for tensor in spec.inputs)

    def prepare(self, sizes: Mapping[str, int]) -> None:
        """Compile the graph."""
        self._compile({_BATCH: 1, **sizes})

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        self._bound.update(feeds)
        compiled = self._compile(self._bound_sizes())
        entries = len(next(iter(self._bound.values())))
        if entries == 1 or not self._one_by_one:
            return compiled.run(self._bound)
        for entry in range(entries):
            place = slice(entry, entry + 1)
            outputs = compiled.run({name: array[place] for name, array in self._bound.items()})
            for name, output in outputs.items():
                self._buffer(name, entries, output)[place] = output
        return self._gathered

    def _buffer(self, name: str, entries: int, output: Array) -> Array:
        """Where the entries of an output are gathered."""
        shape = (entries, *output.shape[1:])
        buffer = self._gathered.get(name)
        if buffer is None or buffer.shape != shape:
            buffer = self._gathered[name] = np.empty(shape, output.dtype)
        return buffer

    def _bound_sizes(self) -> dict[str, int]:
        return {
            axis: size
            for tensor in self.inputs
            for axis, size in zip(tensor.shape, self._bound[tensor.name].shape, strict=True)
            if isinstance(axis, str)
        }

    def _compile(self, sizes: Mapping[str, int]) -> Session:
        axes = dict.fromkeys(a for t in self.inputs for a in t.shape if isinstance(a, str))
        wanted = {axis: 1 if axis == _BATCH else sizes[axis] for axis in axes}
        if self._compiled is None or wanted != self._sizes:
            self._release()
            self._compiled = self._compile_for(wanted)
            self._sizes = wanted
        return self._compiled

    def close(self) -> None:
        """Release the graph."""
        self._release()
        self._bound = {}
        self._gathered = {}

    def _release(self) -> None:
        if self._compiled is not None:
            self._compiled.close()
            self._compiled = None
