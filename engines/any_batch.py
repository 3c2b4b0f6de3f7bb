"""Any number of entries through a graph whose batch is fixed."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from engines import layout
from engines.axes import fixed_axes
from engines.manifest import ComponentSpec, TensorSpec
from engines.session import Array, Session


def open_to_any_batch(session: Session, component: str, spec: ComponentSpec) -> Session:
    """The session itself where its batch is dynamic, else one that takes any batch for it."""
    size = fixed_axes(component, spec).get("batch")
    return session if size is None else _AnyBatch(session, component, spec, size)


class _AnyBatch(Session):
    """Splits what it is fed into batches of one size, the last filled up with its last entry."""

    def __init__(self, session: Session, component: str, spec: ComponentSpec, size: int) -> None:
        declared = layout.COMPONENTS[component]
        super().__init__(
            replace(
                spec,
                inputs=tuple(_release(t, declared.inputs[t.name]) for t in spec.inputs),
                outputs=tuple(_release(t, declared.outputs[t.name]) for t in spec.outputs),
            )
        )
        self._session = session
        self._size = size
        self._bound: dict[str, Array] = {}

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        self._bound.update(feeds)
        entries = len(next(iter(self._bound.values())))
        parts = [self._run_batch(begin) for begin in range(0, entries, self._size)]
        return {
            tensor.name: np.concatenate([part[tensor.name] for part in parts])[:entries]
            for tensor in self.outputs
        }

    def _run_batch(self, begin: int) -> dict[str, Array]:
        places = range(begin, begin + self._size)
        feeds = {name: array.take(places, 0, mode="clip") for name, array in self._bound.items()}
        return {name: array.copy() for name, array in self._session.run(feeds).items()}

    def close(self) -> None:
        """Release the graph."""
        self._session.close()


def _release(tensor: TensorSpec, axes: tuple[str | int | None, ...]) -> TensorSpec:
    """A tensor with its batch's name in the place of its size."""
    shape = tuple(
        "batch" if axis == "batch" else size for axis, size in zip(axes, tensor.shape, strict=True)
    )
    return replace(tensor, shape=shape)
