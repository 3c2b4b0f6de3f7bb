"""A service on stand-in engines that tests can slow down, block and make fail."""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import uvicorn
from starlette.testclient import TestClient

from engines import layout
from engines.backend import Choice
from engines.bundle import Bundle
from engines.session import Array, Session
from runtime.pipeline import Pipeline
from runtime.server.app import create_app
from runtime.server.program import server_config
from runtime.server.service import Service
from runtime.server.settings import ServerSettings
from tests.runtime.stand_ins import StandInBackend, StandInSession
from tests.waiting import PATIENCE, wait_until


class Gate:
    """Holds whoever passes it for the `nth` time, and counts them all; a value of `on_call`."""

    def __init__(self, nth: int = 1) -> None:
        self.passed = 0
        self._nth = nth
        self._reached, self._open = threading.Event(), threading.Event()

    def __call__(self, *_: object) -> None:
        self.passed += 1
        if self.passed == self._nth:
            self._reached.set()
            assert self._open.wait(PATIENCE)

    def wait(self) -> None:
        """Wait until someone is held."""
        assert self._reached.wait(PATIENCE)

    def open(self) -> None:
        """Hold nobody any more."""
        self._open.set()


class StubBackend(StandInBackend):
    """Stand-ins, each of whose calls first asks `on_call`, which may wait or raise."""

    name = "stub"

    def __init__(self) -> None:
        super().__init__()
        self.on_call: dict[str, Callable[[int], None]] = {}
        self._gates: list[threading.Event] = []

    def open_session(self, bundle: Bundle, component: str) -> Session:
        self.sessions[component] = StubSession(component, self)
        return self.sessions[component]

    @contextmanager
    def held(self, component: str = layout.UNET) -> Iterator[threading.Event]:
        """Let every call of one engine wait; the event says that one does."""
        waiting, go = threading.Event(), threading.Event()

        def wait(batch: int) -> None:
            waiting.set()
            assert go.wait(PATIENCE)

        self.on_call[component] = wait
        self._gates.append(go)
        try:
            yield waiting
        finally:
            self.release()

    def release(self) -> None:
        """Let every call go on that waits, and no more wait."""
        self.on_call.clear()
        for go in self._gates:
            go.set()

    def fail(self, component: str, error: Exception, *, times: int = 1) -> None:
        """Let the next calls of one engine fail."""
        left = times

        def raise_error(batch: int) -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                del self.on_call[component]
            raise error

        self.on_call[component] = raise_error


class StubSession(StandInSession):
    """One engine of `StubBackend`."""

    def __init__(self, component: str, backend: StubBackend) -> None:
        super().__init__(component)
        self._backend = backend

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        outputs = super()._execute(feeds)
        on_call = self._backend.on_call.get(self.component)
        if on_call is not None:
            on_call(self.batches[-1])
        return outputs


class Stub:
    """A service, its engines, and a client of its app that is entered like a context manager."""

    def __init__(self, bundle: Bundle, **options: object) -> None:
        self.backend = StubBackend()
        pipeline = Pipeline(bundle, Choice(self.backend, "asked for"))
        settings = ServerSettings(**{"slots": 2, **options})  # type: ignore[arg-type]
        self.service = Service(settings, pipeline)
        self.app = create_app(self.service)

    def client(self) -> AbstractContextManager[TestClient]:
        """A client within the process; what escapes the app would be raised here."""
        return self._client()

    @contextmanager
    def _client(self) -> Iterator[TestClient]:
        with TestClient(self.app) as client:
            wait_until(lambda: self.service.worker.capacity is not None)
            yield client


@contextmanager
def live(stub: Stub) -> Iterator[str]:
    """The app in a real server on a loopback port; gives its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(server_config(stub.service))
    server.config.timeout_graceful_shutdown = 1
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_until(lambda: stub.service.worker.capacity is not None)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stub.backend.release()
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()
