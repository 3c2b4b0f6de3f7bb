"""`runtime serve` as a program: it starts, drains at SIGTERM, and says why it cannot start."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.runtime.server.jobs import record_of
from tests.runtime.stand_ins import write_bundle
from tests.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[3]
_LISTENING = re.compile(r"listening on (http://[\w.:]+)")
KEY = {"Authorization": "Bearer wonderland"}


class Program:
    """A running server; its log is read as it comes."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.wall", "runtime", "serve", *arguments],
            cwd=ROOT,
            env={**os.environ, "FRACTURE_LOG_FORMAT": "json", **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def address(self) -> str:
        """Where it listens, once it does."""
        wait_until(lambda: _LISTENING.search(self.text) is not None)
        (address,) = _LISTENING.findall(self.text)
        return str(address)

    @property
    def text(self) -> str:
        return "".join(self.log)

    def wait(self) -> int:
        """Its exit status."""
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status

    def close(self) -> None:
        """Wait for its end, and for the end of its log."""
        self.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)


@contextlib.contextmanager
def serving(*arguments: str, **environment: str) -> Iterator[Program]:
    program = Program(*arguments, **environment)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.process.kill()
        program.close()


def test_from_its_start_to_a_drain(demo_bundle: Path) -> None:
    """A job that runs when SIGTERM comes is finished and fetched; new ones are refused."""
    arguments = ("--bundle", str(demo_bundle), "--backend", "cpu", "--port", "0", "--slots", "1")
    with serving(*arguments, FRACTURE_KEYS="alice:wonderland") as program:
        with httpx2.Client(base_url=program.address, headers=KEY, timeout=PATIENCE) as client:
            wait_until(lambda: client.get("/readyz").status_code == 200)
            body = {"prompt": "portrait of a man, cracked skin", "steps": 150, "seed": 1}
            job = client.post("/v1/jobs", json=body).json()
            path = f"/v1/jobs/{job['id']}"
            wait_until(lambda: client.get(path).json()["rows_done"] > 0)
            program.process.send_signal(signal.SIGTERM)
            wait_until(lambda: client.get("/readyz").status_code == 503)
            assert client.get("/healthz").status_code == 200
            refused = client.post("/v1/jobs", json=body)
            assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
            assert client.get(path).json()["state"] == "running"
            wait_until(lambda: client.get(path).json()["state"] == "done")
            settings, origin = record_of(client.get(f"{path}/pictures/0").content)
            assert (settings.steps, origin.bundle, origin.backend) == (150, "demo", "cpu")
        assert program.wait() == 0
    lines = [json.loads(line) for line in program.log]
    ids = {line["request_id"] for line in lines if line["message"].startswith("POST /v1/jobs")}
    assert all(ids)
    assert {
        line["request_id"] for line in lines if "1 pictures, 150 rows" in line["message"]
    } <= ids
    assert all(line["client"] == "alice" for line in lines if line.get("path") == "/v1/jobs")
    assert not [line for line in lines if line["level"] in ("warning", "error")]
    assert "wonderland" not in program.text
    assert "cracked skin" not in program.text
    assert "Traceback" not in program.text


def test_a_second_signal_ends_it_at_once(demo_bundle: Path) -> None:
    arguments = ("--bundle", str(demo_bundle), "--port", "0", "--drain", "3600")
    with serving(*arguments, "--backend", "cpu") as program:
        address = program.address
        wait_until(lambda: httpx2.get(f"{address}/readyz", timeout=PATIENCE).status_code == 200)
        body = {"prompt": "", "steps": 150, "count": 16}
        job = httpx2.post(f"{address}/v1/jobs", json=body, timeout=PATIENCE).json()
        events_url = f"{address}/v1/jobs/{job['id']}/events"
        with httpx2.stream("GET", events_url, timeout=PATIENCE) as events:
            program.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "stopping: no new jobs" in program.text)
            program.process.send_signal(signal.SIGTERM)
            *_, last = (line for line in events.iter_lines() if line)
        assert program.wait() == 0
    assert json.loads(last.removeprefix("data: "))["error"]["kind"] == "unavailable"
    assert "Traceback" not in program.text


def test_a_body_that_never_comes_is_not_waited_for(demo_bundle: Path) -> None:
    arguments = ("--bundle", str(demo_bundle), "--port", "0", "--body-timeout", "0.3")
    with serving(*arguments, "--backend", "cpu") as program:
        host, port = program.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
            connection.settimeout(PATIENCE)
            answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 408")
        program.process.send_signal(signal.SIGINT)
        assert program.wait() == 0


def test_engines_that_do_not_load_end_it(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    with serving("--bundle", str(bundle), "--backend", "cpu", "--port", "0") as program:
        assert program.wait() == 1
    assert f"runtime: error: ONNX Runtime cannot load {bundle}/" in program.text
    assert "Traceback" not in program.text


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (("--max-steps", "0"), {}, "--max-steps must be a whole number from 1 to 1000, not 0"),
        ((), {"FRACTURE_PORTS": "1"}, "FRACTURE_PORTS is no option"),
        (("--config", "nonesuch.toml"), {}, "nonesuch.toml cannot be read"),
        (("--bundle", "nonesuch"), {}, "There is no bundle at nonesuch"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_loaded(
    arguments: tuple[str, ...], environment: dict[str, str], message: str
) -> None:
    with serving(*arguments, **environment) as program:
        assert program.wait() == 1
    assert message in program.text
    assert len(program.log) == 1


def test_a_host_that_no_name_can_be(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    with serving("--bundle", str(bundle), "--host", "...", "--backend", "cpu") as program:
        assert program.wait() == 1
    assert "Cannot listen on ... port 7860: no such name is possible." in program.text
    assert "Traceback" not in program.text


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with serving("--bundle", str(bundle), "--port", port, "--backend", "cpu") as program:
            assert program.wait() == 1
    (line,) = program.log
    assert f"Cannot listen on 127.0.0.1 port {port}: Address already in use. Choose" in line


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    """One line: where nothing listens, nobody is to be warned of who may call."""
    bundle = write_bundle(tmp_path / "bundle")
    with serving("--bundle", str(bundle), "--host", "192.0.2.1", "--backend", "cpu") as program:
        assert program.wait() == 1
    (line,) = program.log
    assert "Cannot listen on 192.0.2.1 port 7860: Cannot assign requested address. " in line
