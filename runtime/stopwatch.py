"""A backend that measures how long another one's sessions take, call by call."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from engines.axes import Limits
from engines.backend import Backend
from engines.bundle import Bundle
from engines.manifest import ComponentSpec
from engines.session import Array, Preparation, Session


class Clock(Protocol):
    """What a backend's calls are timed with."""

    def time(self, stage: str) -> AbstractContextManager[None]:
        """Time a block as one call of a stage, which is a component's name."""


class Stopwatch:
    """A clock that keeps every duration.

    Attributes:
        calls: for each component, the seconds of each call.
    """

    def __init__(self) -> None:
        self.calls: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Time a block as one call of a stage."""
        started = time.perf_counter()
        yield
        self.calls[stage].append(time.perf_counter() - started)


class TimedBackend:
    """The backend that it is given, whose sessions' calls a clock times.

    Attributes:
        opening: for each component, the seconds that loading its graph took.
    """

    def __init__(self, backend: Backend, clock: Clock) -> None:
        self._backend = backend
        self._clock = clock
        self.name = backend.name
        self.device = backend.device
        self.max_batch = backend.max_batch
        self.opening: dict[str, float] = {}

    def unavailable(self, bundle: Bundle) -> str | None:
        """What the backend itself says."""
        return self._backend.unavailable(bundle)

    def limits(self, bundle: Bundle) -> Limits:
        """What the backend itself says."""
        return self._backend.limits(bundle)

    def open_session(self, bundle: Bundle, component: str) -> Session:
        """Load a component with the backend, and measure that and every call of it."""
        started = time.perf_counter()
        session = self._backend.open_session(bundle, component)
        self.opening[component] = time.perf_counter() - started
        return _TimedSession(session, bundle.component(component), component, self._clock)


class _TimedSession(Session):
    """A session whose calls a clock times; they return only when their outputs are there."""

    def __init__(self, session: Session, spec: ComponentSpec, component: str, clock: Clock) -> None:
        super().__init__(spec)
        self.inputs, self.outputs = session.inputs, session.outputs
        self._session = session
        self._component = component
        self._clock = clock

    def run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run the session, which checks what it is fed itself."""
        with self._clock.time(self._component):
            return self._session.run(feeds)

    def preparation(self, sizes: Mapping[str, int]) -> Preparation | None:
        """The session's."""
        return self._session.preparation(sizes)

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        return self._session.run(feeds)

    def close(self) -> None:
        """Release the graph."""
        self._session.close()
