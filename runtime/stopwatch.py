"""A backend that measures how long another one's sessions take, call by call."""

import time
from collections import defaultdict
from collections.abc import Mapping

from engines.axes import Limits
from engines.backend import Backend
from engines.bundle import Bundle
from engines.manifest import ComponentSpec
from engines.session import Array, Session


class StopwatchBackend:
    """The backend that it is given, with the seconds that its sessions spend.

    Attributes:
        opening: for each component, the seconds that loading its graph took.
        calls: for each component, the seconds of each call.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.name = backend.name
        self.device = backend.device
        self.max_batch = backend.max_batch
        self.opening: dict[str, float] = {}
        self.calls: dict[str, list[float]] = defaultdict(list)

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
        return _TimedSession(session, bundle.component(component), self.calls[component])

    def forget_calls(self) -> None:
        """Start the lists of calls anew."""
        for seconds in self.calls.values():
            seconds.clear()


class _TimedSession(Session):
    def __init__(self, session: Session, spec: ComponentSpec, seconds: list[float]) -> None:
        super().__init__(spec)
        self._session = session
        self._seconds = seconds

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        started = time.perf_counter()
        outputs = self._session.run(feeds)
        self._seconds.append(time.perf_counter() - started)
        return outputs

    def close(self) -> None:
        """Release the graph."""
        self._session.close()
