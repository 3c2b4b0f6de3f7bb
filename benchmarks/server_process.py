"""A server in a process of its own, for as long as it is measured."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx2

ROOT = Path(__file__).parents[1]
START_SECONDS = 60.0
STOP_SECONDS = 10.0


@contextlib.contextmanager
def serving(
    command: Callable[[int], Sequence[str | Path]], is_ready: Callable[[str], bool]
) -> Iterator[str]:
    """Run a server in a process group of its own, as some start more processes.

    Args:
        command: of the server that listens on a port of 127.0.0.1.
        is_ready: whether the server at an address can be measured; it may raise httpx2's
            TransportError where none listens yet.

    Yields:
        The server's address, such as http://127.0.0.1:8000.

    Raises:
        SystemExit: it did not start, or was not ready in time.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = command(port)
    process = subprocess.Popen(
        arguments,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(process, arguments, lambda: is_ready(address))
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(
    process: "subprocess.Popen[bytes]",
    arguments: Sequence[str | Path],
    is_ready: Callable[[], bool],
) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(httpx2.TransportError):
            if is_ready():
                return
        if process.poll() is not None or time.monotonic() > until:
            raise SystemExit(f"This server did not start: {' '.join(map(str, arguments))}")
        time.sleep(0.1)
