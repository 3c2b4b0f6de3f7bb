"""Any number of entries through a graph that takes only so many, or only that many."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from engines import layout
from engines.axes import fixed_axes
from engines.manifest import ComponentSpec, TensorSpec
from engines.session import Array, Preparation, Session


def open_to_any_batch(
    session: Session, component: str, spec: ComponentSpec, most: int | None = None
) -> Session:
    """The session itself where it takes any batch, else one that takes any batch for it.

    Args:
        session: the graph.
        component: which component it is.
        spec: what the bundle says of it; its batch may be fixed.
        most: the most entries that the backend takes in one call, where there is a limit.
    """
    size = fixed_axes(component, spec).get("batch")
    if size is not None:
        return _AnyBatch(session, _with_any_batch(component, spec), size, fill=True)
    return session if most is None else _AnyBatch(session, spec, most, fill=False)


class _AnyBatch(Session):
    """Splits what it is fed into batches of one size.

    With `fill`, the last one is filled up with its last entry; else it is as small as it is.
    """

    def __init__(self, session: Session, spec: ComponentSpec, size: int, *, fill: bool) -> None:
        super().__init__(spec)
        self._session = session
        self._size = size
        self._fill = fill
        self._whole = False
        self._bound: dict[str, Array] = {}
        self._gathered: dict[str, Array] = {}

    def preparation(self, sizes: Mapping[str, int]) -> Preparation | None:
        """The graph's, for batches of the one size."""
        return self._session.preparation({**sizes, "batch": self._size})

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        self._bound.update(feeds)
        entries = len(next(iter(self._bound.values())))
        if entries <= self._size and not self._fill:
            changed = feeds if self._whole else self._bound
            self._whole = True
            return self._session.run(changed)
        self._whole = False
        for begin in range(0, entries, self._size):
            count = min(self._size, entries - begin)
            outputs = self._session.run(self._batch(begin, count))
            for name, output in outputs.items():
                self._buffer(name, entries, output)[begin : begin + count] = output[:count]
        return self._gathered

    def _batch(self, begin: int, count: int) -> dict[str, Array]:
        """The inputs of one batch: parts of what is bound, copied only to be filled up."""
        if self._fill and count < self._size:
            places = range(begin, begin + self._size)
            return {name: array.take(places, 0, mode="clip") for name, array in self._bound.items()}
        return {name: array[begin : begin + count] for name, array in self._bound.items()}

    def _buffer(self, name: str, entries: int, output: Array) -> Array:
        """Where the entries of an output are gathered."""
        shape = (entries, *output.shape[1:])
        buffer = self._gathered.get(name)
        if buffer is None or buffer.shape != shape:
            buffer = self._gathered[name] = np.empty(shape, output.dtype)
        return buffer

    def close(self) -> None:
        """Release the graph."""
        self._session.close()
        self._bound = {}
        self._gathered = {}


def _with_any_batch(component: str, spec: ComponentSpec) -> ComponentSpec:
    """A component with its batch's name in the place of its size."""
    declared = layout.COMPONENTS[component]

    def release(tensor: TensorSpec, axes: tuple[str | int | None, ...]) -> TensorSpec:
        sizes = zip(axes, tensor.shape, strict=True)
        shape = tuple("batch" if axis == "batch" else size for axis, size in sizes)
        return replace(tensor, shape=shape)

    return replace(
        spec,
        inputs=tuple(release(tensor, declared.inputs[tensor.name]) for tensor in spec.inputs),
        outputs=tuple(release(tensor, declared.outputs[tensor.name]) for tensor in spec.outputs),
    )
