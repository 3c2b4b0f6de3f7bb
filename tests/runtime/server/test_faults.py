"""A failure injected into each stage of a picture ends its own job, and the server goes on."""

import socket
import threading
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from engines import layout
from engines.errors import BackendError
from runtime.denoiser import Denoiser
from runtime.pipeline import Pipeline
from runtime.png import Picture
from runtime.server import api_jobs
from runtime.server import stages as stages_module
from runtime.server.program import _Server, server_config
from runtime.server.scheduler import Scheduler
from tests.runtime.server.jobs import ended, grey_picture, in_company, submit
from tests.runtime.server.stub import Stub, live
from tests.waiting import PATIENCE, wait_until

BROKEN = BackendError("the engine broke")


def fail_engine(component: str) -> Callable[[Stub, pytest.MonkeyPatch], None]:
    return lambda stub, patch: stub.backend.fail(component, BROKEN)


def fail_function(owner: object, name: str) -> Callable[[Stub, pytest.MonkeyPatch], None]:
    def inject(stub: Stub, patch: pytest.MonkeyPatch) -> None:
        whole = getattr(owner, name)

        def broken(*arguments: Any, **options: Any) -> Any:
            patch.setattr(owner, name, whole)
            raise ZeroDivisionError("a secret path")

        patch.setattr(owner, name, broken)

    return inject


STAGES = {
    "text": fail_engine(layout.TEXT_ENCODER),
    "denoise": fail_engine(layout.UNET),
    "decode": fail_engine(layout.VAE_DECODER),
    "encode": fail_engine(layout.VAE_ENCODER),
    "join": fail_function(Denoiser, "add"),
    "resume": fail_function(Pipeline, "resume"),
    "png": fail_function(Picture, "png"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_failure_in_one_stage_ends_its_own_job(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """A job that runs before it and one that waits behind it are finished."""
    with stub.client() as client:
        body: dict[str, Any] = {"prompt": f"fails at {stage}", "steps": 8}
        body |= {"hires": {}} if stage == "resume" else {"init": {"picture": grey_picture()}}
        before = submit(client)
        assert ended(client, before)["state"] == "done"
        STAGES[stage](stub, monkeypatch)
        failed = ended(client, submit(client, **body))
        behind = submit(client, **body)
        assert failed["state"] == "failed"
        assert "secret" not in failed["error"]["message"]
        assert ended(client, behind)["state"] == "done"
        assert client.get(before["pictures"][0]["url"]).status_code == 200
        assert_idle(client)


@pytest.mark.parametrize("stage", ["text", "encode", "decode", "join", "png"])
def test_nor_does_it_touch_the_job_in_the_slot_beside(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """In these stages a call is one job's."""
    body = {"prompt": f"fails at {stage}", "init": {"picture": grey_picture()}, "steps": 8}
    with stub.client() as client:
        with in_company(stub, client) as beside:
            STAGES[stage](stub, monkeypatch)
            failing = submit(client, **body)
        assert ended(client, failing)["state"] == "failed"
        assert ended(client, beside)["state"] == "done"
        assert_idle(client)


def test_without_previews_the_picture_is_still_made(
    seeing: Stub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with seeing.client() as client:
        fail_function(stages_module, "preview")(seeing, monkeypatch)
        assert ended(client, submit(client, previews=True, steps=60))["state"] == "done"
        assert "no more pictures in progress" in caplog.text


def test_a_broken_stream_of_events_ends_no_job(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    with live(stub) as address, httpx2.Client(base_url=address, timeout=10) as client:
        with stub.backend.held():
            job = client.post("/v1/jobs", json={"prompt": "a cat"}).json()
            fail_function(api_jobs, "format_event")(stub, monkeypatch)
            with pytest.raises(httpx2.RemoteProtocolError):
                client.get(f"/v1/jobs/{job['id']}/events")
        events = client.get(f"/v1/jobs/{job['id']}/events").text
        assert "event: done" in events


def test_a_watcher_that_fails_ends_no_job(stub: Stub, caplog: pytest.LogCaptureFixture) -> None:
    def closed() -> None:
        raise RuntimeError("Event loop is closed")

    with stub.client() as client:
        with stub.backend.held():
            job = submit(client)
            (watched,) = stub.service.jobs.unfinished()
            with watched.watching(closed):
                stub.backend.release()
                assert ended(client, job)["state"] == "done"
        assert "a watcher failed" in caplog.text
        assert ended(client, submit(client))["state"] == "done"


def assert_idle(client: TestClient) -> None:
    wait_until(lambda: "fracture_slots_used 0.0" in client.get("/metrics").text)
    assert "fracture_queue_pictures 0.0" in client.get("/metrics").text
    assert client.get("/readyz").status_code == 200


def test_a_mistake_that_ends_the_worker_ends_its_jobs_and_the_program(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is gone makes no pictures: whatever restarts the program has to know."""
    fail_function(Scheduler, "next_action")(stub, monkeypatch)
    server = _Server(server_config(stub.service), stub.service)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert isinstance(stub.service.worker.error, ZeroDivisionError)
    assert stub.service.why_not_ready() == "the worker is not running"
