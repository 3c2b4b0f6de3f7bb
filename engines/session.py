"""A Session is one loaded graph. Shapes and dtypes are checked here, once, for every backend."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from engines.errors import InternalError
from engines.manifest import ComponentSpec, TensorSpec

Array = NDArray[Any]

Preparation = Callable[[], object]
"""Gets a session ready for certain sizes, or raises a BackendError."""


class Session(ABC):
    """One loaded graph that can be run.

    Inputs stay bound until they are fed again: `run` needs only what changed since the last call.
    The arrays that `run` returns belong to the session and hold until its next call; copy what
    must outlive it. A session is not safe for use by two threads at once.
    """

    def __init__(self, spec: ComponentSpec) -> None:
        self.inputs: tuple[TensorSpec, ...] = spec.inputs
        self.outputs: tuple[TensorSpec, ...] = spec.outputs
        self._specs = {tensor.name: tensor for tensor in spec.inputs}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run the graph on the bound inputs after binding `feeds`.

        Args:
            feeds: for each input that changed, a C-contiguous array of the input's dtype.

        Returns:
            Every output by name, valid until the next call.

        Raises:
            InternalError: an unknown name, a wrong dtype or shape, or an input never bound.
        """
        for name, array in feeds.items():
            self._check(name, array)
            self._shapes[name] = array.shape
        self._check_axes()
        return self._execute(feeds)

    def preparation(self, sizes: Mapping[str, int]) -> Preparation | None:
        """What a run on inputs of these sizes would have to do first; None if there is nothing.

        Another thread may do it while sessions of other graphs run.

        Args:
            sizes: for each dynamic axis of the inputs except the batch, its size.
        """
        return None

    @abstractmethod
    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """Bind the changed inputs and run; `feeds` has been checked."""

    @abstractmethod
    def close(self) -> None:
        """Release the graph and its memory; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check(self, name: str, array: Array) -> None:
        spec = self._specs.get(name)
        if spec is None:
            raise InternalError(f"no input {name!r}; the inputs are {', '.join(self._specs)}")
        if array.dtype != np.dtype(spec.dtype):
            raise InternalError(f"{name} must be {spec.dtype}, not {array.dtype}")
        fits = len(array.shape) == len(spec.shape) and all(
            isinstance(axis, str) or axis == size
            for axis, size in zip(spec.shape, array.shape, strict=True)
        )
        if not fits:
            raise InternalError(f"{name} must have the shape {spec.shape}, not {array.shape}")
        if not array.flags.c_contiguous:
            raise InternalError(f"{name} must be C-contiguous")

    def _check_axes(self) -> None:
        """Every input is bound, and an axis name means one number across all of them."""
        sizes: dict[str, tuple[int, str]] = {}
        for name, spec in self._specs.items():
            if name not in self._shapes:
                raise InternalError(f"input {name} was never fed")
            for axis, size in zip(spec.shape, self._shapes[name], strict=True):
                if not isinstance(axis, str):
                    continue
                known, where = sizes.setdefault(axis, (size, name))
                if known != size:
                    raise InternalError(f"axis {axis!r} is {known} in {where} and {size} in {name}")
