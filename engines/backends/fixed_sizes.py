"""A session for engines that are faster on a graph of fixed sizes than on one of any size."""

import functools
from collections.abc import Callable, Mapping

import numpy as np

from engines.manifest import ComponentSpec
from engines.session import Array, Preparation, Session

Compile = Callable[[Mapping[str, int]], Session]
"""Compiles a graph for a size of each of its dynamic axes."""

_BATCH = "batch"


class FixedSizesSession(Session):
    """Compiles the graph for the sizes that it is fed, and again when they change.

    Where the batch is dynamic the graph is compiled for one entry, and a batch is as many runs:
    that costs little where batching brings nothing, and no batch is a reason to compile again.
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

    def preparation(self, sizes: Mapping[str, int]) -> Preparation | None:
        """Compiling the graph, unless it is compiled for these sizes."""
        wanted = self._of_one_entry(sizes)
        if self._compiled is not None and wanted == self._sizes:
            return None
        return functools.partial(self._compiled_for, wanted)

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        self._bound.update(feeds)
        compiled = self._compiled_for(self._of_one_entry(self._bound_sizes()))
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

    def _of_one_entry(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """The sizes of the inputs' dynamic axes, with one entry."""
        axes = {axis for tensor in self.inputs for axis in tensor.shape if isinstance(axis, str)}
        return {axis: 1 if axis == _BATCH else sizes[axis] for axis in axes}

    def _compiled_for(self, sizes: Mapping[str, int]) -> Session:
        if self._compiled is None or sizes != self._sizes:
            self._release()
            self._compiled = self._compile_for(sizes)
            self._sizes = sizes
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
