"""A server, a cache, and a site whose token the tests have."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from convert.downloads.credentials import Site
from convert.downloads.fetch import fetch
from convert.downloads.limits import Limits
from tests.convert.downloads.server import Server

Fetch = Callable[..., Path]

QUICK = Limits(connect_s=5.0, stall_s=5.0, attempts=3, backoff_s=0.01, longest_pause_s=0.02)
SITE = Site(frozenset({"127.0.0.1"}), "LOCAL_TEST_TOKEN", "https://example.org/tokens")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no token of the machine's own."""
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(SITE.variable, raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on this machine, for one test."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield running
        running.released.set()
        running.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def weights() -> bytes:
    """A safetensors file of 1.2 MB, as its own library writes it."""
    noise = np.random.default_rng(7).standard_normal((2, 150_000)).astype(np.float32)
    return save({"lora_a": noise[0], "lora_b": noise[1]})


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty cache."""
    return tmp_path / "cache"


@pytest.fixture
def get(server: Server, cache: Path) -> Fetch:
    """`fetch` of a path of the server into the cache, without patience."""

    def run(path: str = "/lora.safetensors", *, limits: Limits = QUICK, **options: object) -> Path:
        url = server.url(path) if path.startswith("/") else path
        options = {"sites": (SITE,), "progress": False, **options}
        return fetch(url, cache, limits=limits, **options)  # type: ignore[arg-type]

    return run
