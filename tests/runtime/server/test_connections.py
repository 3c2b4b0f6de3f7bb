"""A limit on connections: the silent make room, the busy stay, health is answered all the same."""

import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx2
import pytest

from engines.bundle import Bundle
from engines.errors import SettingError
from runtime.request import Request
from runtime.server import connections as connections_module
from runtime.server import program
from runtime.server.connections import GRACE_SECONDS, RESERVED, Connections
from runtime.server.jobs import Job, State
from runtime.server.metrics import Metrics
from runtime.server.scheduler import Priority
from tests.runtime.server.stub import Stub, live
from tests.waiting import PATIENCE, wait_until

MOST = 4
UNFINISHED_HEAD = b"GET /v1/info HTTP/1.1\r\n"
UNFINISHED_BODY = (
    b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 100\r\n\r\n{"
)


class Fake:
    """A connection of which tests say whether it is busy."""

    def __init__(self, *, busy: bool = False) -> None:
        self.busy = busy
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Clock:
    """A clock that tests set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def connections(clock: Clock) -> Connections:
    return Connections(MOST, Metrics(), clock)


def test_the_one_that_was_silent_longest_makes_room(connections: Connections, clock: Clock) -> None:
    fakes = [Fake() for _ in range(MOST)]
    for fake in fakes:
        assert connections.admit(fake)
        clock.now += 1
    connections.mark_used(fakes[0])
    clock.now += GRACE_SECONDS
    fakes[1].busy = True
    assert connections.admit(Fake())
    assert [fake.aborted for fake in fakes] == [False, False, True, False]
    assert not connections.crowded


def test_none_is_closed_that_has_only_just_come(connections: Connections, clock: Clock) -> None:
    fakes = [Fake() for _ in range(MOST + RESERVED)]
    assert all(map(connections.admit, fakes))
    clock.now += GRACE_SECONDS / 2
    assert not connections.admit(Fake())
    was_crowded = connections.crowded
    assert was_crowded
    assert not any(fake.aborted for fake in fakes)
    clock.now += GRACE_SECONDS / 2
    assert not connections.crowded
    assert [fake.aborted for fake in fakes] == [True] * RESERVED + [False] * MOST


def test_busy_ones_stay_and_some_more_are_let_in(connections: Connections, clock: Clock) -> None:
    fakes = [Fake(busy=True) for _ in range(MOST + RESERVED)]
    for i, fake in enumerate(fakes):
        assert connections.admit(fake)
        assert connections.crowded == (i >= MOST)
    clock.now += 100
    assert not connections.admit(Fake())
    assert not any(fake.aborted for fake in fakes)
    for fake in fakes[: RESERVED + 1]:
        connections.remove(fake)
    assert not connections.crowded


@pytest.fixture
def limited(stand_in_bundle: Bundle) -> Stub:
    return Stub(stand_in_bundle, max_connections=MOST)


def connect(address: str) -> socket.socket:
    target = urlsplit(address)
    return socket.create_connection((target.hostname, target.port), timeout=PATIENCE)


def get(address: str, path: str) -> httpx2.Response:
    """Ask on a connection of its own."""
    return httpx2.get(address + path, timeout=PATIENCE)


@contextlib.contextmanager
def crowd(address: str, count: int, said: bytes) -> Iterator[list[socket.socket]]:
    """Connections that have said something and wait."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(connect(address)) for _ in range(count)]
        for each in sockets:
            each.sendall(said)
        yield sockets


@pytest.mark.parametrize(
    "said", [b"", UNFINISHED_HEAD, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"]
)
def test_clients_that_hold_every_connection_hold_nobody_up(
    limited: Stub, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections_module, "GRACE_SECONDS", 0.0)
    with live(limited) as address, crowd(address, 10 * MOST, said):
        for _ in range(3):
            assert get(address, "/v1/info").status_code == 200
        figures = get(address, "/metrics").text
    assert f"fracture_http_connections {MOST}.0" in figures
    assert 'fracture_http_connections_closed_total{reason="refused"} 0.0' in figures
    assert 'fracture_http_connections_closed_total{reason="silent"} 0.0' not in figures


def test_a_connection_that_was_used_lately_stays(
    limited: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections_module, "GRACE_SECONDS", 0.0)
    with live(limited) as address, crowd(address, MOST, b"") as sockets:
        for each in (*sockets, sockets[0]):
            each.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += each.recv(10_000)
        assert get(address, "/v1/info").status_code == 200
        assert sockets[1].recv(100) == b""
        sockets[0].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert sockets[0].recv(100).startswith(b"HTTP/1.1 200 ")


def test_among_busy_clients_health_is_answered_and_nothing_else(limited: Stub) -> None:
    with live(limited) as address:
        with crowd(address, MOST, UNFINISHED_BODY):
            for path in ("/healthz", "/readyz", "/metrics"):
                assert get(address, path).status_code == 200
            refused = get(address, "/v1/info")
            for_openai = get(address, "/v1/models")
        wait_until(lambda: get(address, "/v1/info").status_code == 200)
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.json()["error"]["kind"] == "unavailable"
    assert for_openai.json()["error"]["type"] == "server_error"


def test_beyond_those_connections_are_closed_at_once(
    limited: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections_module, "GRACE_SECONDS", PATIENCE)
    with live(limited) as address:
        with (
            crowd(address, MOST + RESERVED, b""),
            connect(address) as late,
            contextlib.suppress(ConnectionResetError),
        ):
            assert late.recv(100) == b""
        wait_until(lambda: not limited.service.connections.crowded)
        figures = get(address, "/metrics").text
    assert 'fracture_http_connections_closed_total{reason="refused"} 1.0' in figures


def test_a_kept_connection_is_closed_after_a_while(stand_in_bundle: Bundle) -> None:
    """Not only after the time in which any silent one is closed."""
    stub = Stub(stand_in_bundle, keep_alive=1)
    with live(stub) as address, connect(address) as connection:
        began = time.monotonic()
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(10_000).startswith(b"HTTP/1.1 200 ")
        while connection.recv(10_000):
            pass
        assert 1 <= time.monotonic() - began < stub.service.settings.body_timeout


def test_a_client_that_does_not_read_its_answer_is_given_up(stand_in_bundle: Bundle) -> None:
    """Its answer is larger than what the system keeps for both sides."""
    stub = Stub(stand_in_bundle, body_timeout=1.0)
    (settings,) = stub.service.pipeline.settle([Request("a cat")])
    job = Job("127.0.0.1", [settings], [1], Priority.NORMAL, created=0, deadline=1)
    job.deliver(0, bytes(50_000_000))
    job.end(State.DONE, time.monotonic())
    stub.service.jobs.add(job)
    path = f"/v1/jobs/{job.id}/pictures/0"
    with live(stub) as address:
        with connect(address) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            wait_until(lambda: "fracture_http_connections 1.0" in get(address, "/metrics").text)
        figures = get(address, "/metrics").text
        assert 'fracture_http_connections_closed_total{reason="slow_reader"} 1.0' in figures
        began, received = time.monotonic(), 0
        with httpx2.stream("GET", address + path, timeout=PATIENCE) as slow:
            for part in slow.iter_raw(1_000_000):
                received += len(part)
                time.sleep(0.03)
        assert received == 50_000_000
        assert time.monotonic() - began > stub.service.settings.body_timeout


@pytest.mark.parametrize(("hard", "possible"), [(resource.RLIM_INFINITY, True), (300, False)])
def test_the_system_has_to_allow_as_many(
    monkeypatch: pytest.MonkeyPatch, hard: int, possible: bool
) -> None:
    limits = [(100, hard)]

    def set_limit(_: int, wanted: tuple[int, int]) -> None:
        if not possible:
            raise ValueError("current limit exceeds maximum limit")
        limits.append(wanted)

    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    if possible:
        program._allow_open_files(500)
        program._allow_open_files(400)
        ((wanted, kept),) = limits[1:]
        assert wanted > 500 + RESERVED
        assert kept == hard
    else:
        with pytest.raises(SettingError, match=r"--max-connections 500 needs .* allows 300"):
            program._allow_open_files(500)
