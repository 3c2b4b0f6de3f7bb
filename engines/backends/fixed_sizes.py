"""A session for engines that are faster on a graph of fixed sizes than on one of any size."""

import functools
from collections.abc import Callable, Mapping

from engines.manifest import ComponentSpec
from engines.session import Array, Preparation, Session

Compile = Callable[[Mapping[str, int]], Session]
"""Compiles a graph for a size of each of its dynamic axes."""


class FixedSizesSession(Session):
    """Compiles the graph for the sizes that it is fed, and again when they change.

    Only the last compilation is kept, because each one holds the weights: whoever feeds several
    sizes feeds all calls of one size before those of the next.
    """

    def __init__(self, spec: ComponentSpec, compile_for: Compile) -> None:
        super().__init__(spec)
        self._compile_for = compile_for
        self._compiled: Session | None = None
        self._sizes: Mapping[str, int] = {}
        self._bound: dict[str, Array] = {}

    def preparation(self, sizes: Mapping[str, int]) -> Preparation | None:
        """Compiling the graph, unless it is compiled for these sizes, that of the batch too."""
        axes = {axis for tensor in self.inputs for axis in tensor.shape if isinstance(axis, str)}
        wanted = {axis: sizes[axis] for axis in axes}
        if self._compiled is not None and wanted == self._sizes:
            return None
        return functools.partial(self._compiled_for, wanted)

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        self._bound.update(feeds)
        before = self._compiled
        compiled = self._compiled_for(self._bound_sizes())
        return compiled.run(feeds if compiled is before else self._bound)

    def _bound_sizes(self) -> dict[str, int]:
        return {
            axis: size
            for tensor in self.inputs
            for axis, size in zip(tensor.shape, self._bound[tensor.name].shape, strict=True)
            if isinstance(axis, str)
        }

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

    def _release(self) -> None:
        if self._compiled is not None:
            self._compiled.close()
            self._compiled = None
