"""Jobs that end before their time, in each stage: nobody else notices, and nothing is left."""

import gc
import re
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from engines import layout
from engines.bundle import Bundle
from engines.errors import OutOfMemoryError
from runtime.png import Picture
from runtime.request import Request
from tests.runtime.server.jobs import (
    COMPANY,
    alone,
    ended,
    grey_picture,
    in_company,
    pixels,
    submit,
)
from tests.runtime.server.stub import Gate, Stub
from tests.waiting import wait_until

HIRES = {"scale": 2, "steps": 2, "upscaler": "lanczos"}
TILED = {"width": 832, "vae_tiling": "on"}
"""Two tiles for the VAE; of the default size there are 13 in it."""

GIVEN = {"init": {"picture": grey_picture()}}
GiveUp = Callable[[TestClient, Stub, dict[str, Any]], None]


def hold(stub: Stub, component: str, gate: Gate) -> None:
    """Hold the calls of an engine; of the UNet, those of two pictures."""

    def of_both(batch: int) -> None:
        if len(stub.service.pipeline.denoiser.slots) == 2:
            gate(batch)

    stub.backend.on_call[component] = of_both if component == layout.UNET else gate


def cancel(client: TestClient, stub: Stub, job: dict[str, Any]) -> None:
    answer = client.delete(f"/v1/jobs/{job['id']}").json()
    assert (answer["state"], answer["error"]["kind"]) == ("cancelled", "cancelled")


def pass_deadline(client: TestClient, stub: Stub, job: dict[str, Any]) -> None:
    kept = stub.service.jobs.find(job["id"])
    assert kept is not None
    kept.deadline = time.monotonic()
    seen = ended(client, job)
    assert (seen["state"], seen["error"]["kind"]) == ("failed", "deadline_exceeded")


def assert_made_as_alone(stub: Stub, client: TestClient, company: dict[str, Any]) -> None:
    seen = ended(client, company)
    assert seen["state"] == "done", seen
    made = client.get(seen["pictures"][0]["url"]).content
    bundle = stub.service.pipeline.bundle
    np.testing.assert_array_equal(pixels(made), alone(bundle, COMPANY))


def assert_nothing_is_left(stub: Stub, client: TestClient, job: dict[str, Any]) -> None:
    """Neither a place in the queue or the denoiser, nor the job itself once it is forgotten."""
    assert not stub.service.pipeline.denoiser.slots
    figures = client.get("/metrics").text
    for name in ("queue_pictures", "slots_used"):
        assert f"fracture_{name} 0.0" in figures
    kept = stub.service.jobs.find(job["id"])
    assert kept is not None
    assert not kept.status.pictures
    stub.service.jobs.forget(kept)
    left = weakref.ref(kept)
    del kept

    def gone() -> bool:
        gc.collect()
        return left() is None

    wait_until(gone)


STAGES = [
    pytest.param({}, layout.TEXT_ENCODER, 1, 2, id="text"),
    pytest.param({}, layout.UNET, 2, None, id="rows"),
    pytest.param(GIVEN, layout.VAE_ENCODER, 1, 2, id="encode"),
    pytest.param({**TILED, **GIVEN}, layout.VAE_ENCODER, 1, 3, id="encode-tiles"),
    pytest.param({"hires": HIRES}, layout.VAE_DECODER, 1, 2, id="after-the-first-pass"),
    pytest.param({"hires": HIRES}, layout.VAE_ENCODER, 1, 1, id="before-the-second-pass"),
    pytest.param({}, layout.VAE_DECODER, 1, 2, id="decode"),
    pytest.param(TILED, layout.VAE_DECODER, 1, 2, id="decode-tiles"),
]


@pytest.mark.parametrize("give_up", [cancel, pass_deadline])
@pytest.mark.parametrize(("body", "component", "nth", "calls"), STAGES)
def test_a_job_that_is_given_up_in_a_stage(
    stand_in_bundle: Bundle,
    body: dict[str, Any],
    component: str,
    nth: int,
    calls: int | None,
    give_up: GiveUp,
) -> None:
    """While a call is being made for it, which is the last; a third one then gets its slots.

    `calls` are those of that engine for all three: the first is made to its end, and the third
    given up when it is denoised.
    """
    large = 13 if "width" in body else 4 if "hires" in body else 1
    stub = Stub(stand_in_bundle, slots=1 + large)
    body = {"steps": 3, "prompt": "given up", **body}
    gate, joined = Gate(nth), Gate()

    def see_the_third(batch: int) -> None:
        slots = stub.service.pipeline.denoiser.slots
        if len(slots) == 2 and any(slot.guidance == 3 for slot in slots):
            joined()

    with stub.client() as client:
        with in_company(stub, client) as company:
            hold(stub, component, gate)
            job = submit(client, **body)
        gate.wait()
        give_up(client, stub, job)
        third = submit(client, **{**body, "cfg": 3, "steps": 100, "prompt": "third"})
        stub.backend.on_call[layout.UNET] = see_the_third
        gate.open()
        joined.wait()
        cancel(client, stub, third)
        joined.open()
        assert_made_as_alone(stub, client, company)
        if calls is not None:
            assert gate.passed == calls
        for each in (job, third):
            assert_nothing_is_left(stub, client, each)


@pytest.mark.parametrize("give_up", [cancel, pass_deadline])
def test_a_job_that_is_given_up_while_it_waits(stand_in_bundle: Bundle, give_up: GiveUp) -> None:
    stub = Stub(stand_in_bundle, slots=1)
    with stub.client() as client:
        texts = stub.backend.sessions[layout.TEXT_ENCODER].batches
        with in_company(stub, client) as company:
            before = len(texts)
            job = submit(client, prompt="given up", count=2)
            give_up(client, stub, job)
        assert_made_as_alone(stub, client, company)
        assert len(texts) == before
        assert_nothing_is_left(stub, client, job)


@pytest.mark.parametrize("give_up", [cancel, pass_deadline])
def test_a_job_that_is_given_up_and_was_the_only_one(stub: Stub, give_up: GiveUp) -> None:
    """Nothing is done after it that would take its place in variables."""
    gate = Gate()
    with stub.client() as client:
        stub.backend.on_call[layout.UNET] = gate
        job = submit(client)
        gate.wait()
        give_up(client, stub, job)
        gate.open()
        wait_until(lambda: "fracture_slots_used 0.0" in client.get("/metrics").text)
        assert_nothing_is_left(stub, client, job)


@pytest.mark.parametrize("give_up", [cancel, pass_deadline])
def test_a_job_that_is_given_up_while_its_picture_is_compressed(
    stub: Stub, give_up: GiveUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one of three: the first one is there already, the third is never compressed."""
    gate = Gate(2)
    png = Picture.png

    def held(picture: Picture) -> bytes:
        if picture.settings.prompt == "given up":
            gate()
        return png(picture)

    def all_are_decoded() -> bool:
        """The other job's picture may be, too."""
        figures = client.get("/metrics").text
        return re.search(r"fracture_pictures_total [34]\.0", figures) is not None

    monkeypatch.setattr(Picture, "png", held)
    with stub.client() as client:
        with in_company(stub, client) as company:
            job = submit(client, prompt="given up", count=3, steps=3)
        gate.wait()
        wait_until(all_are_decoded)
        give_up(client, stub, job)
        gate.open()
        assert_made_as_alone(stub, client, company)
        assert gate.passed == 2
        assert_nothing_is_left(stub, client, job)


@pytest.mark.parametrize("component", [layout.VAE_DECODER, layout.VAE_ENCODER])
def test_a_job_that_is_stopped_between_its_passes(
    stub: Stub, stand_in_bundle: Bundle, component: str
) -> None:
    """The picture of its first pass, although the call was the last before the second."""
    gate = Gate()
    with stub.client() as client:
        stub.backend.on_call[component] = gate
        job = submit(client, steps=6, hires=HIRES)
        gate.wait()
        (running,) = stub.service.jobs.unfinished()
        stub.service.worker.stop_early(running, only_current=False)
        del running
        gate.open()
        seen = ended(client, job)
        assert seen["state"] == "done"
        made = client.get(seen["pictures"][0]["url"]).content
    wanted = alone(stand_in_bundle, Request("a cat", seed=3, steps=6))
    np.testing.assert_array_equal(pixels(made), wanted)


@pytest.mark.parametrize("only_current", [False, True])
def test_a_job_that_is_stopped_before_its_first_row(stub: Stub, only_current: bool) -> None:
    """There is nothing to be shown yet: it ends without a picture, or goes on where it is kept."""
    gate = Gate()
    with stub.client() as client:
        stub.backend.on_call[layout.TEXT_ENCODER] = gate
        job = submit(client, prompt="stopped", hires=HIRES)
        gate.wait()
        (running,) = stub.service.jobs.unfinished()
        stub.service.worker.stop_early(running, only_current=only_current)
        gate.open()
        seen = ended(client, job)
    assert seen["state"] == "done"
    assert [picture["ready"] for picture in seen["pictures"]] == [only_current]


@pytest.mark.parametrize("cfg", [1, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_pictures_fail_where_memory_is_short_for_the_smallest_call(
    stand_in_bundle: Bundle, cfg: float, count: int
) -> None:
    """With guidance, that is one picture; without it, two take as much."""
    stub = Stub(stand_in_bundle, slots=4)
    calls = 0

    def refuse(batch: int) -> None:
        nonlocal calls
        calls += 1
        assert calls < 20, "it is tried again for ever"
        raise OutOfMemoryError("no memory")

    with stub.client() as client:
        stub.backend.on_call[layout.UNET] = refuse
        seen = ended(client, submit(client, count=count, cfg=cfg))
        assert (seen["state"], seen["error"]["message"]) == ("failed", "no memory")
        stub.backend.on_call.clear()
        assert ended(client, submit(client, count=count, cfg=cfg))["state"] == "done"
        assert not stub.service.pipeline.denoiser.slots
