"""The worker when engines fail, are short of memory, hang, or come back."""

import logging
import threading

import numpy as np
import pytest
from starlette.testclient import TestClient

from engines import layout
from engines.bundle import Bundle
from engines.errors import BackendError, OutOfMemoryError
from runtime import denoiser as denoiser_module
from runtime.png import Picture
from runtime.request import Request
from runtime.samplers.catalogue import SAMPLERS
from runtime.server import worker as worker_module
from runtime.slot import NonFinitePredictionError
from tests.runtime.server.jobs import alone, ended, grey_picture, pixels, record_of, submit
from tests.runtime.server.stub import Gate, Stub
from tests.waiting import PATIENCE, wait_until

BROKEN = BackendError("the engine broke")


def test_an_error_of_the_unet_fails_the_jobs_of_that_call_only(stand_in_bundle: Bundle) -> None:
    """Two sizes are in two calls; the first call of the row fails."""
    stub = Stub(stand_in_bundle, slots=3)
    both_submitted = threading.Event()
    with stub.client() as client:

        def break_once_both_run(batch: int) -> None:
            assert both_submitted.wait(PATIENCE)
            running = stub.service.pipeline.denoiser.slots
            if len(running) == 2 and running[0] is stub.service.pipeline.denoiser.calling[0]:
                del stub.backend.on_call[layout.UNET]
                raise BROKEN

        stub.backend.on_call[layout.UNET] = break_once_both_run
        first = submit(client, steps=100)
        second = submit(client, steps=100, width=128)
        both_submitted.set()
        assert ended(client, first)["error"] == {
            "kind": "engine_error",
            "message": "the engine broke",
        }
        assert ended(client, second)["state"] == "done"
        assert ended(client, submit(client))["state"] == "done"
        metrics = client.get("/metrics").text
        assert 'fracture_engine_failures_total{stage="denoise"} 1.0' in metrics
        assert 'fracture_jobs_total{state="failed"} 1.0' in metrics


@pytest.mark.parametrize("component", [layout.TEXT_ENCODER, layout.UNET, layout.VAE_DECODER])
def test_after_a_failure_in_any_stage_the_server_goes_on(stub: Stub, component: str) -> None:
    with stub.client() as client:
        stub.backend.fail(component, BROKEN)
        failed = ended(client, submit(client, prompt="never seen", count=2))
        assert (failed["state"], failed["error"]["kind"]) == ("failed", "engine_error")
        assert ended(client, submit(client, prompt="never seen"))["state"] == "done"
        assert not stub.service.pipeline.denoiser.slots
        assert "fracture_queue_pictures 0.0" in client.get("/metrics").text


def test_our_own_mistakes_are_logged_and_not_told(
    stub: Stub, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stub.client() as client:
        stub.backend.fail(layout.UNET, ZeroDivisionError("a secret path"))
        failed = ended(client, submit(client))
        assert failed["error"]["kind"] == "internal_error"
        assert "secret" not in failed["error"]["message"]
        assert "a secret path" in caplog.text

        def broken(self: Picture) -> bytes:
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr(Picture, "png", broken)
            assert ended(client, submit(client))["error"]["kind"] == "internal_error"
        assert ended(client, submit(client))["state"] == "done"


def test_an_overflow_fails_that_picture_and_is_no_engine_failure(stub: Stub) -> None:
    both_submitted = threading.Event()
    with stub.client() as client:

        def overflow(batch: int) -> None:
            assert both_submitted.wait(PATIENCE)
            denoiser = stub.service.pipeline.denoiser
            bad = [slot for slot in denoiser.slots if slot.guidance == 50]
            if len(denoiser.slots) == 2 and bad:
                del stub.backend.on_call[layout.UNET]
                raise NonFinitePredictionError(bad[0])

        stub.backend.on_call[layout.UNET] = overflow
        good = submit(client, steps=100)
        bad = submit(client, steps=100, cfg=50)
        both_submitted.set()
        assert "not finite" in ended(client, bad)["error"]["message"]
        assert ended(client, good)["state"] == "done"
        metrics = client.get("/metrics").text
        assert 'fracture_engine_failures_total{stage="denoise"} 0.0' in metrics


def test_too_little_memory_makes_calls_smaller_and_loses_nothing(stand_in_bundle: Bundle) -> None:
    stub = Stub(stand_in_bundle, slots=4)
    with stub.client() as client:

        def too_large(batch: int) -> None:
            if batch > 4:
                raise OutOfMemoryError("no memory")

        stub.backend.on_call[layout.UNET] = too_large
        done = ended(client, submit(client, count=4, steps=10))
        assert done["state"] == "done"
        assert stub.service.worker.slots == 2
        assert "fracture_slots 2.0" in client.get("/metrics").text
        stub.backend.on_call[layout.UNET] = lambda batch: None
        stub.backend.sessions[layout.UNET].batches.clear()
        assert ended(client, submit(client, count=4))["state"] == "done"
        assert max(stub.backend.sessions[layout.UNET].batches) == 4
        pictures = [client.get(picture["url"]).content for picture in done["pictures"]]
    for png in pictures:
        settings, _ = record_of(png)
        wanted = alone(stand_in_bundle, Request("a cat", seed=settings.seed, steps=10))
        np.testing.assert_array_equal(pixels(png), wanted)


def test_a_mistake_before_the_engine_is_called_ends_what_runs_and_no_more(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stub.client() as client:
        ended(client, submit(client))

        def broken(slots: object, max_batch: int) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr(denoiser_module, "form_batches", broken)
            assert ended(client, submit(client))["error"]["kind"] == "internal_error"
        assert ended(client, submit(client))["state"] == "done"


def test_a_picture_without_memory_even_alone_fails(stub: Stub) -> None:
    """Others need not suffer from one that is too large by itself."""
    with stub.client() as client:
        stub.backend.fail(layout.UNET, OutOfMemoryError("no memory"))
        failed = ended(client, submit(client))
        assert failed["error"] == {"kind": "engine_error", "message": "no memory"}
        assert stub.service.worker.slots == 2
        assert ended(client, submit(client))["state"] == "done"


@pytest.mark.parametrize("component", layout.COMPONENTS)
def test_engines_that_keep_failing_are_not_ready_until_a_probe_succeeds(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, component: str
) -> None:
    """Two probes fail as well; the first is held until it was seen that there is need of it."""
    monkeypatch.setattr(worker_module, "PROBE_SECONDS", 0.05)
    probe = Gate(4)

    def fail(batch: int) -> None:
        probe()
        if probe.passed <= 5:
            raise BROKEN

    with stub.client() as client:
        stub.backend.on_call[component] = fail
        for i in range(3):
            assert client.get("/readyz").status_code == 200
            job = submit(client, prompt=f"never seen {i}", init={"picture": grey_picture()})
            assert ended(client, job)["state"] == "failed"
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert "the last 3 calls of the engine failed" in answer.json()["reason"]
        assert client.get("/healthz").status_code == 200
        probe.open()
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert probe.passed > 5
        assert ended(client, submit(client))["state"] == "done"


def test_a_server_whose_jobs_went_while_memory_was_short_is_ready_again(
    stand_in_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody sends it a job while it is not ready, nor is there one whose row could succeed."""
    monkeypatch.setattr(worker_module, "PROBE_SECONDS", 0.05)
    stub = Stub(stand_in_bundle, slots=16, max_pictures=16)
    third, cancelled = threading.Event(), threading.Event()
    with stub.client() as client:

        def too_large(batch: int) -> None:
            if batch == 2 * 4:
                third.set()
                assert cancelled.wait(PATIENCE)
            if batch > 2:
                raise OutOfMemoryError("no memory")

        stub.backend.on_call[layout.UNET] = too_large
        job = submit(client, count=16)
        assert third.wait(PATIENCE)
        client.delete(f"/v1/jobs/{job['id']}")
        with stub.backend.held(layout.VAE_ENCODER) as probed:
            cancelled.set()
            assert probed.wait(PATIENCE)
            answer = client.get("/readyz")
            assert (answer.status_code, answer.json()["ready"]) == (503, False)
            assert "the last 3 calls of the engine failed" in answer.json()["reason"]
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert stub.service.worker.slots == 2
        assert ended(client, submit(client, count=2))["state"] == "done"


def test_a_stuck_engine_is_noticed_and_forgiven(
    stand_in_bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    stub = Stub(stand_in_bundle, stall=0.1)
    with stub.client() as client, caplog.at_level(logging.INFO):
        with stub.backend.held():
            job = submit(client)
            wait_until(lambda: client.get("/readyz").status_code == 503)
            assert "denoise" in client.get("/readyz").json()["reason"]
            wait_until(lambda: "not ready: a call of the engine" in caplog.text)
        assert ended(client, job)["state"] == "done"
        assert client.get("/readyz").json() == {"ready": True, "reason": None}


def test_not_ready_until_the_engines_are_warm(stand_in_bundle: Bundle) -> None:
    stub = Stub(stand_in_bundle)
    with stub.backend.held(), TestClient(stub.app) as client:
        answer = client.get("/readyz")
        assert (answer.status_code, client.get("/healthz").status_code) == (503, 200)
        assert answer.json()["reason"] == "the engines are being loaded"
        job = submit(client)
        stub.backend.release()
        assert ended(client, job)["state"] == "done"
        assert {len(stub.backend.sessions), client.get("/readyz").status_code} == {4, 200}


def test_engines_that_cannot_be_loaded(stand_in_bundle: Bundle) -> None:
    stub = Stub(stand_in_bundle)
    stub.backend.fail(layout.VAE_DECODER, BROKEN)
    with TestClient(stub.app) as client:
        wait_until(lambda: stub.service.worker.error is BROKEN)
        assert "the engine broke" in client.get("/readyz").json()["reason"]
        wait_until(lambda: client.post("/v1/jobs", json={"prompt": ""}).status_code == 503)


def test_a_server_that_is_about_to_stop_takes_no_new_jobs(stub: Stub) -> None:
    with stub.client() as client:
        stub.service.draining = True
        refused = client.post("/v1/jobs", json={"prompt": ""})
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        assert client.get("/readyz").status_code == 503


def test_jobs_that_are_left_at_the_end_are_cancelled(stub: Stub) -> None:
    with stub.client() as client, stub.backend.held() as waiting:
        submit(client, count=3)
        assert waiting.wait(PATIENCE)
        (job,) = stub.service.jobs.unfinished()
        stub.backend.release()
        stub.service.worker.stop(PATIENCE)
        assert job.status.ended
    assert all(session.closed for session in stub.backend.sessions.values())


def test_a_call_that_outlasts_the_wait_for_its_end_still_brings_a_picture(stub: Stub) -> None:
    """What is sent to be compressed then finds somebody who takes it."""
    worker = stub.service.worker
    with stub.client() as client:
        with stub.backend.held(layout.VAE_DECODER) as waiting:
            submit(client)
            assert waiting.wait(PATIENCE)
            worker.stop(timeout=0)
        worker.stop(timeout=PATIENCE)
    assert worker.error is None
    assert all(session.closed for session in stub.backend.sessions.values())


def test_a_picture_is_the_same_in_the_company_of_all_samplers(stand_in_bundle: Bundle) -> None:
    stub = Stub(stand_in_bundle, slots=6, queue=100)
    requests = [
        Request("a cat", seed=i, sampler=sampler.name, steps=4 + i % 5, cfg=1 + i % 3)
        for i, sampler in enumerate(SAMPLERS)
    ]
    with stub.client() as client:
        with stub.backend.held():
            jobs = [
                submit(
                    client,
                    seed=each.seed,
                    sampler=each.sampler,
                    steps=each.steps,
                    cfg=each.cfg,
                )
                for each in requests
            ]
        made = [client.get(ended(client, job)["pictures"][0]["url"]).content for job in jobs]
        assert max(stub.backend.sessions[layout.UNET].batches) > 6
    for request, png in zip(requests, made, strict=True):
        np.testing.assert_array_equal(pixels(png), alone(stand_in_bundle, request))
