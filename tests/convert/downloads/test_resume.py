"""Transfers that break off: what came is used again, and only if it is of the same file."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from convert.downloads.cache import Entry, Record
from convert.downloads.limits import Limits
from engines.errors import InputError
from tests.convert.downloads.conftest import Fetch
from tests.convert.downloads.server import Exchange, Served, Server
from tests.waiting import PATIENCE, wait_until

LORA = "/lora.safetensors"
ROOT = Path(__file__).parents[3]
ONCE = Limits(stall_s=5.0, attempts=1)
IMPATIENT = Limits(stall_s=0.3, attempts=1)
HALF = 700_000

PROGRAM = """
import logging, sys
from pathlib import Path
from convert.downloads.fetch import fetch
logging.basicConfig(level=logging.INFO)
print(fetch(sys.argv[1], Path(sys.argv[2]), progress=False))
"""


def _part(cache: Path) -> int:
    """How much of an unfinished download the cache holds."""
    return sum(path.stat().st_size for path in cache.rglob("partial"))


def _ranges(server: Server) -> list[str | None]:
    return [exchange.headers.get("Range") for exchange in server.seen]


def _broken_off(server: Server, get: Fetch, served: Served) -> None:
    """A first run that got half of the file."""
    served.cut = HALF
    server.routes[LORA] = served
    with pytest.raises(InputError, match=r"connection broke off|ended after"):
        get(limits=ONCE)
    served.cut = None
    server.seen.clear()


def test_the_next_run_goes_on(server: Server, get: Fetch, weights: bytes, cache: Path) -> None:
    served = Served(weights)
    _broken_off(server, get, served)
    assert _part(cache) == HALF
    path = get(limits=ONCE)
    assert path.read_bytes() == weights
    assert _ranges(server) == [f"bytes={HALF}-"]
    assert server.seen[0].headers["If-Range"] == '"one"'
    assert _part(cache) == 0


def test_the_same_run_goes_on(server: Server, get: Fetch, weights: bytes) -> None:
    """A server that sends 500,000 bytes at a time, from wherever it is asked to."""

    def grudging(exchange: Exchange) -> None:
        start = int(exchange.headers.get("Range", "bytes=0-")[6:-1])
        Served(weights, cut=start + 500_000).answer(exchange)

    server.routes[LORA] = grudging
    assert get().read_bytes() == weights
    assert _ranges(server) == [None, "bytes=500000-", "bytes=1000000-"]


def test_the_date_serves_where_there_is_no_etag(server: Server, get: Fetch, weights: bytes) -> None:
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    served = Served(weights, etag=None, modified=date)
    _broken_off(server, get, served)
    assert get(limits=ONCE).read_bytes() == weights
    assert server.seen[0].headers["If-Range"] == date


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_validator_all_of_it_is_fetched(
    server: Server, get: Fetch, weights: bytes, etag: str | None
) -> None:
    served = Served(weights, etag=etag)
    _broken_off(server, get, served)
    assert get(limits=ONCE).read_bytes() == weights
    assert _ranges(server) == [None]


def test_a_server_without_ranges_starts_anew(server: Server, get: Fetch, weights: bytes) -> None:
    served = Served(weights, ranges=False)
    _broken_off(server, get, served)
    assert get(limits=ONCE).read_bytes() == weights
    assert _ranges(server) == [f"bytes={HALF}-"]


@pytest.mark.parametrize("heeds_if_range", [True, False])
@pytest.mark.parametrize("size_differs", [True, False])
def test_a_file_that_changed_meanwhile_is_fetched_whole(
    server: Server, get: Fetch, weights: bytes, *, heeds_if_range: bool, size_differs: bool
) -> None:
    other = bytes(reversed(weights[-HALF:]))
    newer = weights[: len(weights) - HALF] + other
    if size_differs:
        newer = weights.replace(b"lora_a", b"lora_a__", 1)
        newer = (int.from_bytes(newer[:8], "little") + 2).to_bytes(8, "little") + newer[8:]
    _broken_off(server, get, Served(weights))
    server.routes[LORA] = Served(newer, etag='"two"', heeds_if_range=heeds_if_range)
    assert get(limits=ONCE).read_bytes() == newer
    assert _ranges(server)[0] == f"bytes={HALF}-"


def test_a_change_that_the_server_hides_is_caught_by_the_hash(
    server: Server, get: Fetch, weights: bytes
) -> None:
    newer = weights[:1000] + bytes(1000) + weights[2000:]
    _broken_off(server, get, Served(weights))
    server.routes[LORA] = Served(newer)
    path = get(limits=ONCE, sha256=hashlib.sha256(newer).hexdigest())
    assert path.read_bytes() == newer
    assert _ranges(server) == [f"bytes={HALF}-", None]


def test_the_same_etag_with_another_size_is_another_file(
    server: Server, get: Fetch, weights: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    _broken_off(server, get, Served(weights))
    newer = save({"lora_a": np.zeros(300_001, np.float32)})
    server.routes[LORA] = Served(newer)
    assert get(limits=ONCE).read_bytes() == newer
    assert "does not fit together" not in caplog.text


def test_another_range_than_asked_for_is_not_appended(
    server: Server, get: Fetch, weights: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    _broken_off(server, get, Served(weights))

    def shifted(exchange: Exchange) -> None:
        if "Range" not in exchange.headers:
            Served(weights).answer(exchange)
            return
        size = len(weights)
        exchange.reply(
            206,
            {"ETag": '"one"', "Content-Range": f"bytes {HALF - 1}-{size - 1}/{size}"},
            weights[HALF - 1 :],
        )

    server.routes[LORA] = shifted
    assert get(limits=ONCE).read_bytes() == weights
    assert len(server.seen) == 2
    assert "does not fit together" not in caplog.text


def test_a_remainder_that_is_too_long_is_refused(
    server: Server, get: Fetch, weights: bytes, cache: Path
) -> None:
    _broken_off(server, get, Served(weights))
    size = len(weights)
    server.routes[LORA] = lambda exchange: exchange.reply(
        206, {"Content-Range": f"bytes {HALF}-{size - 1}/{size}"}, weights[HALF:] + b"more"
    )
    with pytest.raises(InputError, match="sends more than"):
        get(limits=ONCE)
    assert _part(cache) == 0


def test_a_remainder_that_is_too_short_is_a_further_part(
    server: Server, get: Fetch, weights: bytes, cache: Path
) -> None:
    _broken_off(server, get, Served(weights))
    size = len(weights)
    server.routes[LORA] = lambda exchange: exchange.reply(
        206, {"Content-Range": f"bytes {HALF}-{HALF + 9}/{size}"}, weights[HALF : HALF + 10]
    )
    with pytest.raises(InputError, match=f"ended after {HALF + 10} of {size} bytes"):
        get(limits=ONCE)
    assert _part(cache) == HALF + 10


def test_what_was_fetched_but_not_yet_kept_needs_no_server(
    server: Server, get: Fetch, weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(entry: Entry, record: Record) -> Path:
        raise KeyboardInterrupt

    server.routes[LORA] = Served(weights)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Entry, "finish", interrupt)
        get(limits=ONCE)
    server.routes.clear()
    assert get(limits=ONCE).read_bytes() == weights
    assert len(server.seen) == 1


def test_a_part_that_is_whole_is_kept_after_416(server: Server, get: Fetch, weights: bytes) -> None:
    """Where the size was never announced, only the server knows that nothing is missing."""
    server.routes[LORA] = Served(weights, sized=False, stall=len(weights))
    with pytest.raises(InputError, match=r"nothing came for 0\.3 s"):
        get(limits=IMPATIENT)
    server.seen.clear()
    server.routes[LORA] = Served(weights)
    assert get(limits=ONCE).read_bytes() == weights
    assert _ranges(server) == [f"bytes={len(weights)}-"]


def test_416_for_a_part_that_is_too_long_starts_anew(
    server: Server, get: Fetch, weights: bytes, cache: Path
) -> None:
    _broken_off(server, get, Served(weights))
    (part,) = cache.rglob("partial")
    part.write_bytes(bytes(len(weights) + 10))
    assert get(limits=ONCE).read_bytes() == weights
    assert len(server.seen) == 2


def test_a_damaged_part_is_noticed_and_fetched_again(
    server: Server, get: Fetch, weights: bytes, cache: Path
) -> None:
    _broken_off(server, get, Served(weights))
    (part,) = cache.rglob("partial")
    part.write_bytes(b"\xff" * HALF)
    assert get(limits=ONCE).read_bytes() == weights
    assert _ranges(server) == [f"bytes={HALF}-", None]


def test_a_part_without_its_record_is_not_trusted(
    server: Server, get: Fetch, weights: bytes, cache: Path
) -> None:
    _broken_off(server, get, Served(weights))
    (record,) = cache.rglob("partial.json")
    record.write_text('{"revision": 1, "file": 3}')
    assert get(limits=ONCE).read_bytes() == weights
    assert _ranges(server) == [None]


def test_a_login_page_does_not_cost_the_part(
    server: Server, get: Fetch, weights: bytes, cache: Path
) -> None:
    _broken_off(server, get, Served(weights))
    server.routes[LORA] = lambda exchange: exchange.reply(200, {}, b"<html>log in</html>")
    with pytest.raises(InputError, match="web page"):
        get(limits=ONCE)
    assert _part(cache) == HALF


def test_a_stall_ends_with_what_to_do(
    server: Server, get: Fetch, weights: bytes, cache: Path
) -> None:
    server.routes[LORA] = Served(weights, stall=HALF)
    began = time.monotonic()
    with pytest.raises(InputError, match=r"nothing came for 0\.3 s\. The 0\.7 MB .* again"):
        get(limits=IMPATIENT)
    assert time.monotonic() - began < 5
    assert _part(cache) == HALF


def test_a_server_that_never_answers(server: Server, get: Fetch) -> None:
    def silent(exchange: Exchange) -> None:
        server.released.wait(20)

    server.routes[LORA] = silent
    with pytest.raises(InputError, match=r"no answer from 127\.0\.0\.1 for 0\.3 s"):
        get(limits=IMPATIENT)


def test_a_length_that_is_too_long_is_an_error(server: Server, get: Fetch, weights: bytes) -> None:
    server.routes[LORA] = Served(weights, claims=len(weights) + 100, ranges=False)
    with pytest.raises(InputError, match="in 3 attempts"):
        get()


def test_a_length_that_is_too_short_is_an_error(
    server: Server, get: Fetch, weights: bytes, cache: Path
) -> None:
    server.routes[LORA] = Served(weights, claims=len(weights) - 100)
    with pytest.raises(InputError, match="damaged or incomplete"):
        get()
    assert _part(cache) == 0
    assert list(cache.rglob("record.json")) == []


def test_a_stream_of_unknown_length_that_ends_early_is_an_error(
    server: Server, get: Fetch, weights: bytes
) -> None:
    server.routes[LORA] = Served(weights, sized=False, cut=HALF)
    with pytest.raises(InputError, match="damaged or incomplete"):
        get()


def _start(server: Server, cache: Path, log: Path) -> subprocess.Popen[str]:
    """Another process that fetches, and adds what it does to `log`."""
    with log.open("a") as messages:
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROGRAM, server.url(LORA), str(cache)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
        )


def test_killed_in_the_middle_it_goes_on(
    server: Server, get: Fetch, weights: bytes, cache: Path, tmp_path: Path
) -> None:
    server.routes[LORA] = Served(weights, stall=HALF)
    with _start(server, cache, tmp_path / "log") as process:
        wait_until(lambda: _part(cache) == HALF)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert list(cache.rglob("record.json")) == []
    server.seen.clear()
    server.routes[LORA] = Served(weights)
    assert get(limits=ONCE).read_bytes() == weights
    assert _ranges(server) == [f"bytes={HALF}-"]


def test_two_processes_fetch_it_once(
    server: Server, weights: bytes, cache: Path, tmp_path: Path
) -> None:
    def slow(exchange: Exchange) -> None:
        server.released.wait(PATIENCE)
        Served(weights).answer(exchange)

    server.routes[LORA] = slow
    log = tmp_path / "log"
    with _start(server, cache, log) as first, _start(server, cache, log) as second:
        wait_until(lambda: "waiting for another process that fetches" in log.read_text())
        wait_until(lambda: server.seen)
        server.released.set()
        paths = [process.communicate(timeout=PATIENCE)[0].strip() for process in (first, second)]
        assert first.returncode == second.returncode == 0
    assert paths[0] == paths[1]
    assert Path(paths[0]).read_bytes() == weights
    assert len(server.seen) == 1
