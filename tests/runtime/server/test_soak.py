"""A thousand mixed requests, of which many are broken or given up: nothing is lost or leaked.

On a real server with stand-in engines. Memory is compared between the second quarter of the
requests and the last, when everything that is made once has been made.
"""

import asyncio
import contextlib
import gc
import random
import resource
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2

from engines.bundle import Bundle
from runtime.server.jobs import ENDED, Job, JobStore
from tests.runtime.server.stub import Stub, live
from tests.waiting import PATIENCE, wait_until

QUARTERS = 4
OF_A_QUARTER = 250
TOGETHER = 16
KEEP = 60.0
MOST_GROWTH = 5_000_000
"""Bytes: 500 requests that each kept a picture, with its metadata 10 kB, would be at this."""

MOST_OBJECTS = 800
"""Fewer than two for each request between: a job has over twenty, and so has a connection."""
MOST_THREADS = 10
"""What a pool may still have grown by: the event loop's makes threads as they are needed."""

Kind = Callable[[httpx2.AsyncClient, int], Awaitable[int]]


async def job_to_its_end(client: httpx2.AsyncClient, seed: int) -> int:
    submitted = await client.post("/v1/jobs", json={"prompt": "a cat", "seed": seed})
    if submitted.status_code != 202:
        return submitted.status_code
    path = submitted.headers["location"]
    events = await client.get(f"{path}/events")
    assert "event: done" in events.text
    picture = await client.get(f"{path}/pictures/0")
    assert picture.content.startswith(b"\x89PNG")
    return (await client.delete(path)).status_code


async def job_cancelled(client: httpx2.AsyncClient, seed: int) -> int:
    body = {"prompt": "a cat", "seed": seed, "steps": 50, "count": 2}
    submitted = await client.post("/v1/jobs", json=body)
    if submitted.status_code == 202:
        path = submitted.headers["location"]
        await client.delete(path)
        await client.delete(path)
    return submitted.status_code


async def job_left(client: httpx2.AsyncClient, seed: int) -> int:
    """Nobody asks after it; the store drops it."""
    return (await client.post("/v1/jobs", json={"prompt": "a dog", "seed": seed})).status_code


async def webui(client: httpx2.AsyncClient, seed: int) -> int:
    body = {"prompt": "a cat", "seed": seed, "steps": 3, "width": 64, "height": 64}
    return (await client.post("/sdapi/v1/txt2img", json=body)).status_code


async def openai(client: httpx2.AsyncClient, seed: int) -> int:
    body = {"prompt": "a cat", "seed": seed, "stream": bool(seed // len(KINDS) % 2)}
    return (await client.post("/v1/images/generations", json=body)).status_code


async def gone(client: httpx2.AsyncClient, seed: int) -> int:
    """The client goes away while it waits for an answer or for events."""
    path, body = [
        ("/sdapi/v1/txt2img", {"prompt": "a cat", "steps": 60}),
        ("/v1/images/generations", {"prompt": "a cat", "steps": 60}),
        ("/v1/images/generations", {"prompt": "a cat", "steps": 60, "stream": True}),
    ][seed // len(KINDS) % 3]
    with contextlib.suppress(httpx2.TimeoutException):
        answer = await client.post(path, json=body, timeout=random.Random(seed).uniform(0.001, 0.1))
        return answer.status_code
    return 0


async def broken(client: httpx2.AsyncClient, seed: int) -> int:
    path, content = [
        ("/v1/jobs", b"{"),
        ("/v1/jobs", b'{"prompt": "a", "init": {"picture": "AAAA"}}'),
        ("/v1/jobs", b'{"prompt": "a", "steps": 100000}'),
        ("/sdapi/v1/img2img", b'{"prompt": "a", "init_images": ["no picture"]}'),
        ("/v1/images/generations", b"\xff\xfe"),
        ("/v1/nonesuch", b"x" * 100_000),
        ("/v1/jobs", b" " * 300_000),
    ][seed // len(KINDS) % 7]
    headers = {"Content-Type": "application/json"}
    answer = await client.post(path, content=content, headers=headers)
    assert 400 <= answer.status_code < 500
    return answer.status_code


KINDS: tuple[Kind, ...] = (job_to_its_end, job_cancelled, job_left, webui, openai, gone, broken)


class Accepted(JobStore):
    """Remembers every job that was ever taken, without its pictures."""

    def __init__(self, keep_seconds: float, keep_bytes: int) -> None:
        super().__init__(keep_seconds, keep_bytes)
        self.ends: Counter[str] = Counter()
        self.open: dict[str, Job] = {}

    def add(self, job: Job) -> None:
        self.open[job.id] = job
        super().add(job)

    def settle(self) -> bool:
        """Whether all have ended, of which those that have are counted."""
        for job in [job for job in self.open.values() if job.status.state in ENDED]:
            self.ends[job.status.state] += 1
            del self.open[job.id]
        return not self.open


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def open_files() -> int:
    """Files and sockets that this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def requests(address: str, quarter: int, statuses: Counter[int]) -> None:
    limits = asyncio.Semaphore(TOGETHER)
    async with httpx2.AsyncClient(base_url=address, timeout=PATIENCE) as client:

        async def one(seed: int) -> None:
            async with limits:
                statuses[await KINDS[seed % len(KINDS)](client, seed)] += 1

        begin = quarter * OF_A_QUARTER
        await asyncio.gather(*(one(seed) for seed in range(begin, begin + OF_A_QUARTER)))


def test_a_thousand_mixed_requests(stand_in_bundle: Bundle) -> None:
    stub = Stub(stand_in_bundle, queue=12, keep=KEEP, max_body=200_000)
    accepted = stub.service.jobs = Accepted(KEEP, 10**9)
    statuses: Counter[int] = Counter()
    memory, objects, threads, tasks = [], [], [], []
    with live(stub) as address:
        files = open_files()
        for quarter in range(QUARTERS):
            asyncio.run(requests(address, quarter, statuses))
            wait_until(accepted.settle)
            accepted.sweep(time.monotonic() + KEEP)
            assert not accepted.ended()
            wait_until(lambda: open_files() <= files)
            gc.collect()
            memory.append(resident())
            threads.append(threading.active_count())
            objects.append(len(gc.get_objects()))
            tasks.append(sum(issubclass(type(each), asyncio.Task) for each in gc.get_objects()))
        assert statuses.total() == QUARTERS * OF_A_QUARTER
        assert not [status for status in statuses if status >= 500]
        assert {200, 202, 400, 413, 429} <= set(statuses), statuses
        assert set(accepted.ends) == {"done", "cancelled"}, accepted.ends
        assert memory[-1] - memory[1] < MOST_GROWTH, memory
        assert objects[-1] - objects[1] < MOST_OBJECTS, objects
        assert threads[-1] - threads[1] < MOST_THREADS, threads
        assert tasks[-1] <= tasks[1], tasks
        assert not stub.service.pipeline.denoiser.slots
        assert httpx2.get(f"{address}/readyz").status_code == 200
        assert stub.service.worker.error is None
