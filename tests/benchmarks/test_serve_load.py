"""The load test on stand-in engines, and the static batches that it compares with."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from starlette.testclient import TestClient

from benchmarks import serve_load
from benchmarks.arrivals import Arrival
from benchmarks.static_server import StaticBatches, create_static_app
from engines import layout
from engines.backend import Choice
from runtime.pipeline import Pipeline
from runtime.request import Request
from tests.runtime.server.jobs import pixels
from tests.runtime.server.stub import Stub, live
from tests.runtime.stand_ins import StandInBackend, open_stand_in

SIZE = 4


@pytest.fixture
def backend() -> StandInBackend:
    return StandInBackend()


@pytest.fixture
def batches(backend: StandInBackend, tmp_path: Path) -> StaticBatches:
    bundle = open_stand_in(tmp_path / "bundle")
    return StaticBatches(Pipeline(bundle, Choice(backend, "asked for"), 2 * SIZE), SIZE)


def test_static_batches_take_equal_steps_in_order_and_run_to_the_end(
    batches: StaticBatches, backend: StandInBackend
) -> None:
    """Five of 3 steps and two of 2: four and then, in the order of their first, two and one."""
    ended: list[int] = []

    async def ask(seed: int, steps: int) -> None:
        await batches.make(Request("a cat", seed=seed, steps=steps, sampler="Euler"))
        ended.append(seed)

    async def ask_all() -> None:
        asks = [ask(seed, steps) for seed, steps in enumerate((3, 2, 3, 3, 2, 3, 3))]
        waiting = [asyncio.create_task(each) for each in asks]
        await asyncio.sleep(0)
        working = asyncio.create_task(batches.work())
        await asyncio.gather(*waiting)
        working.cancel()

    asyncio.run(ask_all())
    assert backend.sessions[layout.UNET].batches == [8, 8, 8, 4, 4, 2, 2, 2]
    assert [sorted(ended[:4]), sorted(ended[4:6]), ended[6:]] == [[0, 2, 3, 5], [1, 4], [6]]


def test_what_fails_is_told_and_the_next_batch_is_made(
    batches: StaticBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> None:
        working = asyncio.create_task(batches.work())
        with monkeypatch.context() as patch:
            patch.setattr(batches, "_make", lambda _: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await batches.make(Request("a cat", seed=1, steps=2))
        await batches.make(Request("a cat", seed=1, steps=2))
        working.cancel()

    asyncio.run(ask())


def test_both_servers_make_the_same_picture(batches: StaticBatches, tmp_path: Path) -> None:
    bodies = serve_load.make_bodies([Arrival(0, 4)] * 12)
    stub = Stub(open_stand_in(tmp_path / "other"))
    with stub.client() as client, TestClient(create_static_app(batches)) as static:
        assert static.get("/readyz").status_code == 200
        for body in bodies:
            ours, theirs = (
                pixels(base64.b64decode(_ask(each, body)["images"][0])) for each in (client, static)
            )
            np.testing.assert_array_equal(ours, theirs)


def test_every_server_gets_the_same_at_every_load(tmp_path: Path) -> None:
    stub = Stub(open_stand_in(tmp_path / "bundle"), slots=4)
    with live(stub) as address:
        assert serve_load._slots(address) == 4
        seconds = asyncio.run(serve_load.seconds_alone(address))
        assert set(seconds) == {steps for steps, _ in serve_load.STEPS}
        servers = {serve_load.ALONE: address, serve_load.MEASURED: address}
        runs = list(serve_load.measure_all(servers, seconds, 3))
    assert len(runs) == 2 * len(serve_load.LOADS) * len(servers)
    for one, other in zip(runs[::2], runs[1::2], strict=True):
        for key in ("arrivals", "load", "load_drawn"):
            assert one[key] == other[key]
    for run in runs:
        assert 0 < float(run["p50"]) <= float(run["p95"]) <= float(run["p99"]) < 5


def test_a_refused_request_ends_the_run(tmp_path: Path) -> None:
    stub = Stub(open_stand_in(tmp_path / "bundle"), max_steps=1)
    with live(stub) as address, pytest.raises(httpx2.HTTPStatusError):
        asyncio.run(serve_load.ask_all(address, [Arrival(0, 4)]))


def test_rows_are_timed_with_as_many_pictures(backend: StandInBackend, tmp_path: Path) -> None:
    with Pipeline(open_stand_in(tmp_path / "bundle"), Choice(backend, "asked for")) as pipeline:
        seconds = serve_load.seconds_of_rows(pipeline)
    assert set(seconds) == {1, 2, SIZE}
    assert min(seconds.values()) > 0
    assert set(backend.sessions[layout.UNET].batches) == {2, 4, 2 * SIZE}


def test_a_load_of_one_is_what_one_at_a_time_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_load, "STEPS", ((4, 0.5), (10, 0.25), (20, 0.25)))
    assert serve_load.capacity({4: 0.2, 10: 0.4, 20: 0.8}) == pytest.approx(1 / 0.4)


def test_requests_differ_and_are_the_same_each_time() -> None:
    arrivals = serve_load.arrivals_from_zero("bursty", 2.0, 40)
    assert arrivals[0].at == 0
    assert arrivals == serve_load.arrivals_from_zero("bursty", 2.0, 40)
    bodies = serve_load.make_bodies(arrivals)
    assert {body["steps"] for body in bodies} == {steps for steps, _ in serve_load.STEPS}
    pairs = {(body["prompt"], body["sampler_name"]) for body in bodies}
    assert len(pairs) == len(serve_load.PROMPTS) * len(serve_load.SAMPLERS)
    assert len({body["seed"] for body in bodies}) == 40


def test_table() -> None:
    figures = {"pictures_per_second": 1.234, "p50": 0.5, "p95": 2.0, "p99": 3.456}
    runs = [
        {"arrivals": "Poisson", "load": load, "server": server, **figures}
        for load in (0.5, 0.9)
        for server in (serve_load.ALONE, serve_load.MEASURED)
    ]
    assert serve_load.markdown_table({"runs": runs, "slots_measured": 2}).splitlines() == [
        "| arrivals | load | server | pictures/s | p50 | p95 | p99 |",
        "|---|---|---|---|---|---|---|",
        "| Poisson | 0.5 | first come, first served | 1.23 | 0.50 | 2.00 | 3.46 |",
        "| | | continuous, slots measured (2) | 1.23 | 0.50 | 2.00 | 3.46 |",
        "| Poisson | 0.9 | first come, first served | 1.23 | 0.50 | 2.00 | 3.46 |",
        "| | | continuous, slots measured (2) | 1.23 | 0.50 | 2.00 | 3.46 |",
    ]


def _ask(client: TestClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/sdapi/v1/txt2img", json=body)
    answer.raise_for_status()
    content: dict[str, Any] = answer.json()
    return content
