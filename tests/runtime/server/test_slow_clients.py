"""Clients that hold their connection: slow heads, slow and too large bodies, on a real server."""

import contextlib
import json
import select
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from engines.bundle import Bundle
from tests.runtime.server.stub import Stub, live
from tests.waiting import PATIENCE, wait_until

SECONDS = 0.4
MOST = 20.0
"""Seconds, long after the limit and before the usual one."""
MAX_BODY = 5000
STREAM = {"prompt": "a cat", "stream": True}
PATH = "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture
def guarded(stand_in_bundle: Bundle) -> Stub:
    return Stub(stand_in_bundle, body_timeout=SECONDS, max_body=MAX_BODY)


@pytest.fixture
def address(guarded: Stub) -> Iterator[str]:
    with live(guarded) as address:
        yield address


def connect(address: str) -> socket.socket:
    target = urlsplit(address)
    assert target.port is not None
    return socket.create_connection((target.hostname, target.port), timeout=PATIENCE)


def drip(connection: socket.socket, text: str) -> bytes:
    """Send a byte now and then until the server closes the connection; what it said meanwhile."""
    until, said = time.monotonic() + MOST, b""
    connection.settimeout(0.02)
    for character in text.encode():
        assert time.monotonic() < until, "the server still listens"
        try:
            connection.send(bytes([character]))
            received = connection.recv(10_000)
        except TimeoutError:
            continue
        except OSError:
            return said
        if not received:
            return said
        said += received
    raise AssertionError("the server still listens")


def answer_of(connection: socket.socket) -> bytes:
    """All that comes until the connection is closed or silent."""
    said = b""
    connection.settimeout(PATIENCE)
    with contextlib.suppress(OSError):
        while not said.endswith(b"}") and (received := connection.recv(10_000)):
            said += received
    return said


def test_a_head_that_does_not_end_is_not_waited_for(address: str) -> None:
    with connect(address) as connection:
        said = drip(connection, PATH + "X-Slow: " + "a" * 2000)
        assert said.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in said.lower()


def test_nor_on_a_connection_that_was_answered_before(address: str) -> None:
    with connect(address) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer_of(connection).startswith(b"HTTP/1.1 200 ")
        said = drip(connection, "GET /healthz HTTP/1.1\r\nX-Slow: " + "a" * 2000)
        assert said.startswith(b"HTTP/1.1 408 ")


def test_a_connection_that_says_nothing_is_closed(address: str) -> None:
    with connect(address) as connection:
        connection.settimeout(MOST)
        assert connection.recv(100) == b""


@pytest.mark.parametrize("framing", ["Content-Length: 3000", "Transfer-Encoding: chunked"])
def test_a_body_that_does_not_end_is_not_waited_for(address: str, framing: str) -> None:
    """Neither before the answer nor after it."""
    chunk = '{"prompt": "' + "a" * 2000
    body = chunk if "Length" in framing else "".join(f"1\r\n{c}\r\n" for c in chunk)
    with connect(address) as connection:
        connection.sendall(f"{PATH}{framing}\r\n\r\n".encode())
        said = drip(connection, body)
    assert said.startswith(b"HTTP/1.1 408 ")
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["kind"] == "request_timeout"


def test_slow_clients_hold_nobody_else_up(stub: Stub) -> None:
    """They are all still there when somebody else gets an answer."""
    with live(stub) as address, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(address)) for _ in range(50)]
        for connection in slow:
            connection.sendall(PATH.encode())
        assert httpx2.get(f"{address}/healthz", timeout=PATIENCE).status_code == 200
        assert select.select(slow, [], [], 0)[0] == []


def test_a_job_that_takes_longer_than_the_limit_is_no_slow_client(
    guarded: Stub, address: str
) -> None:
    """The limit ends with the request; the answer takes as long as it takes."""
    url = f"{address}/v1/images/generations"
    with (
        guarded.backend.held() as waiting,
        httpx2.stream("POST", url, json=STREAM, timeout=PATIENCE) as answer,
    ):
        assert answer.status_code == 200
        assert waiting.wait(PATIENCE)
        time.sleep(2 * SECONDS)
        guarded.backend.release()
        assert "image_generation.completed" in answer.read().decode()


def test_a_body_that_says_that_it_is_too_large_is_refused_before_it_is_sent(address: str) -> None:
    with connect(address) as connection:
        connection.sendall(f"{PATH}Content-Length: {MAX_BODY + 1}\r\n\r\n".encode())
        said = answer_of(connection)
    assert said.startswith(b"HTTP/1.1 413 ")
    assert str(MAX_BODY).encode() in said


def test_a_body_in_chunks_is_refused_once_it_is_too_large(guarded: Stub, address: str) -> None:
    with connect(address) as connection:
        connection.sendall(f"{PATH}Transfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(MAX_BODY // 1000 + 1):
            connection.sendall(b"3e8\r\n" + b"a" * 1000 + b"\r\n")
        said = answer_of(connection)
    assert said.startswith(b"HTTP/1.1 413 ")
    wait_until(lambda: not guarded.service.jobs.unfinished())


def test_an_answer_does_not_wait_for_acknowledgements(
    guarded: Stub, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Nagle's algorithm it would, for 40 ms, on every connection that is kept."""
    connections = guarded.service.connections
    admit = connections.admit
    at_once = []

    def see(connection: Any) -> bool:
        transport = connection.transport.get_extra_info("socket")
        at_once.append(transport.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return admit(connection)

    monkeypatch.setattr(connections, "admit", see)
    assert httpx2.get(f"{address}/healthz").status_code == 200
    assert at_once == [1]


def test_a_client_that_leaves_while_it_sends_a_form_is_no_mistake_of_ours(
    guarded: Stub, address: str
) -> None:
    head = "POST /v1/images/edits HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
    with connect(address) as connection:
        connection.sendall(
            f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n--x".encode()
        )
    refused = 'fracture_refusals_total{kind="cancelled"} 1.0'
    wait_until(lambda: refused in guarded.service.metrics.text().decode())
    assert 'kind="internal_error"} 1.0' not in guarded.service.metrics.text().decode()
