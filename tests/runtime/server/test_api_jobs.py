"""Our own protocol, within the process, on stand-in engines."""

import base64
import dataclasses
import json
from typing import Any

import httpx2
import pytest

from engines.bundle import Bundle
from runtime.server import sse
from tests.runtime.server.jobs import ended, record_of
from tests.runtime.server.stub import Stub, live
from tests.waiting import PATIENCE, wait_until

BODY = {"prompt": "a cat", "seed": 3}


def test_a_job_from_its_submission_to_its_pictures(stub: Stub) -> None:
    with stub.client() as client:
        answer = client.post("/v1/jobs", json={**BODY, "count": 2, "steps": 3})
        assert answer.status_code == 202
        job = answer.json()
        assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
        assert (job["rows"], len(job["pictures"])) == (6, 2)
        done = ended(client, job)
        assert (done["state"], done["rows_done"], done["seconds_left"]) == ("done", 6, 0)
        for picture in done["pictures"]:
            png = client.get(picture["url"])
            assert png.headers["content-type"] == "image/png"
            settings, origin = record_of(png.content)
            assert (settings.seed, settings.steps) == (picture["seed"], 3)
            assert origin.backend == "stub"
            tag = png.headers["ETag"]
            again = client.get(picture["url"], headers={"If-None-Match": tag})
            assert again.status_code == 304
        assert client.delete(answer.headers["Location"]).status_code == 200
        assert client.get(answer.headers["Location"]).status_code == 404


def test_events_tell_of_progress_and_the_end(stub: Stub) -> None:
    with stub.client() as client:
        job = client.post("/v1/jobs", json=BODY).json()
        stream = client.get(f"/v1/jobs/{job['id']}/events")
    assert stream.headers["content-type"].startswith("text/event-stream")
    lines = stream.text.splitlines()
    events = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    views = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data")]
    assert events[-1] == "done"
    assert set(events[:-1]) <= {"progress"}
    assert [view["rows_done"] for view in views] == sorted(view["rows_done"] for view in views)
    assert views[-1]["rows_done"] == 4


def test_a_cancelled_job_leaves_its_slot(stub: Stub) -> None:
    with stub.client() as client:
        with stub.backend.held() as waiting:
            job = client.post("/v1/jobs", json={**BODY, "count": 2}).json()
            assert waiting.wait(PATIENCE)
            assert client.delete(f"/v1/jobs/{job['id']}").json()["state"] == "cancelled"
        other = client.post("/v1/jobs", json={"prompt": "a dog"}).json()
        assert ended(client, other)["state"] == "done"
        seen = client.get(f"/v1/jobs/{job['id']}").json()
        assert (seen["state"], seen["error"]["kind"]) == ("cancelled", "cancelled")
        assert client.get(seen["pictures"][0]["url"]).status_code == 404
        wait_until(lambda: not stub.service.pipeline.denoiser.slots)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 151}, "151 steps are too many"),
        ({"steps": 0}, "0 steps"),
        ({"count": 17}, "17 pictures of one request"),
        ({"count": 0}, "0 pictures"),
        ({"width": 2048, "height": 2048}, "2048x2048 is too large"),
        ({"width": 65}, "not a multiple of 8"),
        ({"prompt": "a" * 4001}, "the prompt has 4001 characters"),
        ({"negative": "a" * 4001}, "the negative prompt has 4001 characters"),
        ({"sampler": "nonesuch"}, "No sampler 'nonesuch'"),
        ({"preset": "nonesuch"}, "No preset 'nonesuch'"),
        ({"tags": "some"}, "The tags 'some'"),
        ({"prompt": "[a|b:3]"}, "neither prompt editing"),
        ({"prompt": "<lora:other:1>"}, "not in this bundle"),
        ({"seed": -2}, "seed -2"),
        ({"cfg": 1e9}, "guidance scale 1e+09"),
        ({"stepz": 3}, "stepz"),
        ({"prompt": None}, "prompt"),
        ({"steps": "many"}, "steps"),
        ({"deadline": -1}, "deadline"),
        ({"priority": "mine"}, "priority"),
    ],
)
def test_what_is_not_possible_is_refused_with_the_reason(
    stub: Stub, change: dict[str, object], message: str
) -> None:
    with stub.client() as client:
        answer = client.post("/v1/jobs", json={**BODY, **change})
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["kind"] == "invalid_request"
        assert message in error["message"]
        assert error["request_id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"\xff\xfe", b"{" * 5000])
def test_bodies_that_are_no_job(stub: Stub, body: bytes) -> None:
    with stub.client() as client:
        answer = client.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400
        assert answer.json()["error"]["kind"] == "invalid_request"


def test_a_full_queue_says_when_to_come_back(stand_in_bundle: Bundle) -> None:
    stub = Stub(stand_in_bundle, slots=1, queue=3)
    with stub.client() as client, stub.backend.held() as waiting:
        first = client.post("/v1/jobs", json=BODY)
        assert waiting.wait(PATIENCE)
        assert client.post("/v1/jobs", json={**BODY, "count": 2}).status_code == 202
        refused = client.post("/v1/jobs", json={**BODY, "count": 2})
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.json()["error"]["kind"] == "busy"
        assert client.post("/v1/jobs", json=BODY).status_code == 202
        metrics = client.get("/metrics").text
        assert "fracture_queue_pictures 3.0" in metrics
        assert 'fracture_refusals_total{kind="busy"} 1.0' in metrics
        assert first.status_code == 202


def test_a_deadline_ends_a_job_that_waits_and_one_that_runs(stand_in_bundle: Bundle) -> None:
    stub = Stub(stand_in_bundle, slots=1)
    with stub.client() as client, stub.backend.held() as running:
        jobs = [client.post("/v1/jobs", json={**BODY, "deadline": 1}).json() for _ in range(2)]
        assert running.wait(PATIENCE), "it ended before it ran"
        for job in jobs:
            seen = ended(client, job)
            assert (seen["state"], seen["error"]["kind"]) == ("failed", "deadline_exceeded")


def test_a_job_may_ask_for_less_time_than_the_server_gives_but_not_for_more(
    stand_in_bundle: Bundle,
) -> None:
    stub = Stub(stand_in_bundle, slots=1, deadline=0.3)
    with stub.client() as client, stub.backend.held():
        job = client.post("/v1/jobs", json={**BODY, "deadline": 1000}).json()
        assert "within 0.3 seconds" in ended(client, job)["error"]["message"]


def test_a_stream_that_is_silent_is_kept_alive(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE_SECONDS", 0.05)
    with live(stub) as address, stub.backend.held(), httpx2.Client(base_url=address) as client:
        path = client.post("/v1/jobs", json=BODY).headers["Location"]
        with client.stream("GET", f"{path}/events") as events:
            assert ": still here" in events.iter_lines()


def test_results_are_kept_for_a_while(stand_in_bundle: Bundle) -> None:
    stub = Stub(stand_in_bundle, keep=0.0)
    with stub.client() as client:
        job = client.post("/v1/jobs", json=BODY).json()
        path = f"/v1/jobs/{job['id']}"
        wait_until(lambda: client.get(path).status_code == 404)
        assert not stub.service.jobs.ended()


def test_a_client_sees_its_own_jobs_only(stand_in_bundle: Bundle) -> None:
    stub = Stub(stand_in_bundle, keys={"alice": "wonderland", "bob": "builder-bob"})
    with stub.client() as client:
        alice = {"Authorization": "Bearer wonderland"}
        basic = base64.b64encode(b"bob:builder-bob").decode()
        bob = {"Authorization": f"Basic {basic}"}
        job = client.post("/v1/jobs", json=BODY, headers=alice).json()
        path = f"/v1/jobs/{job['id']}"
        assert client.get(path, headers=alice).status_code == 200
        for method in (client.get, client.delete):
            assert method(path, headers=bob).status_code == 404
        assert client.get(f"{path}/events", headers=bob).status_code == 404
        for path in ("/v1/jobs", "/metrics", "/openapi.json", "/v1/info", "/nonesuch"):
            refused = client.get(path)
            assert refused.status_code == 401
            assert "WWW-Authenticate" in refused.headers
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200


def test_priorities_decide_who_is_next(stand_in_bundle: Bundle) -> None:
    stub = Stub(stand_in_bundle, slots=1)
    with stub.client() as client:
        with stub.backend.held() as waiting:
            client.post("/v1/jobs", json=BODY)
            assert waiting.wait(PATIENCE)
            low = client.post("/v1/jobs", json={**BODY, "priority": "low"}).json()
            high = client.post("/v1/jobs", json={**BODY, "priority": "high"}).json()
        for job in (low, high):
            assert ended(client, job)["state"] == "done"
        order = [job.id for job in stub.service.jobs.ended()]
    assert order.index(high["id"]) < order.index(low["id"])


def test_a_body_beyond_the_limit_is_not_read(stand_in_bundle: Bundle) -> None:
    stub = Stub(stand_in_bundle, max_body=2000)
    with stub.client() as client:
        big = b'{"prompt": "' + b"a" * 3000 + b'"}'

        def chunks() -> Any:
            for begin in range(0, len(big), 100):
                yield big[begin : begin + 100]

        for content in (big, chunks()):
            answer = client.post(
                "/v1/jobs", content=content, headers={"content-type": "application/json"}
            )
            assert answer.status_code == 413
            assert answer.json()["error"]["kind"] == "too_large"


def test_what_is_served(stub: Stub) -> None:
    with stub.client() as client:
        info = client.get("/v1/info").json()
        assert (info["bundle"], info["backend"], info["slots"]) == ("stand-in", "stub", 2)
        assert info["limits"]["steps"] == 150
        assert info["presets"] == ["cracked", "glowing"]
        assert info["preset_tags"] == {"cracked": "none", "glowing": "none"}
        assert "karras" in info["samplers"]["DPM++ 2M"]
        document = client.get("/openapi.json").json()
        assert "/v1/jobs/{job_id}/events" in document["paths"]


def test_ids_of_requests_are_kept_where_they_are_sane(stub: Stub) -> None:
    with stub.client() as client:
        given = client.get("/healthz", headers={"X-Request-ID": "abc-1"})
        assert given.headers["X-Request-ID"] == "abc-1"
        for bad in ("a b", "x" * 65, "a;b"):
            made = client.get("/healthz", headers={"X-Request-ID": bad})
            assert made.headers["X-Request-ID"] not in (bad, "")


def test_cors_is_off_by_default_and_covers_refusals(stub: Stub, stand_in_bundle: Bundle) -> None:
    origin = {"Origin": "http://page"}
    with stub.client() as client:
        assert "Access-Control-Allow-Origin" not in client.get("/v1/info", headers=origin).headers
    keys = {"alice": "wonderland"}
    allowing = Stub(stand_in_bundle, cors=("http://page",), keys=keys, max_body=1000)
    with allowing.client() as client:
        preflight = client.options(
            "/v1/jobs", headers={**origin, "Access-Control-Request-Method": "POST"}
        )
        assert preflight.status_code == 200
        assert preflight.headers["Access-Control-Allow-Origin"] == "http://page"
        for status, key in ((401, "wonder"), (413, "wonderland")):
            headers = {**origin, "Authorization": f"Bearer {key}"}
            answer = client.post("/v1/jobs", content=b" " * 2000, headers=headers)
            assert answer.status_code == status
            assert answer.headers["Access-Control-Allow-Origin"] == "http://page"
            assert "X-Request-ID" in answer.headers
        other = client.get("/healthz", headers={"Origin": "http://other"})
        assert "Access-Control-Allow-Origin" not in other.headers


def test_settings_are_what_the_record_says(stub: Stub) -> None:
    """Every field of the protocol reaches the picture."""
    body = {
        "prompt": "a cow",
        "negative": "grass",
        "preset": "none",
        "seed": 7,
        "steps": 5,
        "cfg": 3.5,
        "sampler": "Euler a",
        "schedule": "karras",
        "width": 128,
        "height": 72,
        "clip_skip": 2,
    }
    with stub.client() as client:
        done = ended(client, client.post("/v1/jobs", json=body).json())
        png = client.get(done["pictures"][0]["url"]).content
    settings, _ = record_of(png)
    del body["preset"]
    made = dataclasses.asdict(settings)
    assert {name: made[name] for name in body} == body


def test_no_page_loads_anything_from_elsewhere(stub: Stub) -> None:
    with stub.client() as client:
        assert client.get("/openapi.json").json()["info"]["title"] == "fracture-sd"
        for path in ("/docs", "/redoc"):
            assert client.get(path).status_code == 404


def test_a_proxy_on_this_machine_is_believed_who_calls_and_how(stub: Stub) -> None:
    with live(stub) as address, httpx2.Client(base_url=address) as proxy:
        first, second = ({"X-Forwarded-For": f"192.0.2.{i}"} for i in (1, 2))
        path = proxy.post("/v1/jobs", json=BODY, headers=first).headers["Location"]
        assert proxy.get(path, headers=first).status_code == 200
        assert proxy.get(path, headers=second).status_code == 404
        made = proxy.post(
            "/v1/images/generations",
            json={"prompt": "a cat", "response_format": "url"},
            headers={"X-Forwarded-Proto": "https", "Host": "pictures.example"},
        )
        assert made.json()["data"][0]["url"].startswith("https://pictures.example/v1/images/files/")


def test_monitors_may_ask_for_health_without_its_body(stub: Stub) -> None:
    with stub.client() as client:
        for path in ("/healthz", "/readyz"):
            answer = client.head(path)
            assert (answer.status_code, answer.content) == (200, b"")
        stub.service.draining = True
        assert client.head("/readyz").status_code == 503
