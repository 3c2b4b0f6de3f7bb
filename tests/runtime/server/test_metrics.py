"""What an operator scrapes and greps: names after Prometheus' conventions, and quiet probes."""

import json
import logging
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engines import __version__, layout
from engines.errors import BackendError
from runtime.server.logs import configure_logs
from tests.runtime.server.jobs import ended, submit
from tests.runtime.server.stub import Stub

LABELS = {"state", "kind", "stage", "method", "route", "status", "reason", "le"}
"""None of them is free text; those of `_info` say what does not change."""


def test_figures_are_named_as_prometheus_has_it(stub: Stub) -> None:
    with stub.client() as client:
        assert ended(client, submit(client))["state"] == "done"
        families = list(text_string_to_metric_families(client.get("/metrics").text))
    ours = [family for family in families if family.name.startswith("fracture_")]
    for family in ours:
        assert family.documentation
        assert re.fullmatch(r"[a-z_]+", family.name)
        assert not re.search(r"milli|percent|minutes|_ms\b|_kb\b|_created$", family.name)
        assert family.type in ("counter", "gauge", "histogram")
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
        if not family.name.endswith("_info"):
            assert {label for sample in family.samples for label in sample.labels} <= LABELS
    build = next(family for family in ours if family.name == "fracture_build_info")
    assert build.samples[0].labels == {"version": __version__}


def test_a_job_is_timed_as_a_whole_by_how_it_ended(stub: Stub) -> None:
    """Apart from the stages, which are of calls and pictures."""
    with stub.client() as client:
        stub.backend.fail(layout.VAE_DECODER, BackendError("the engine broke"))
        assert ended(client, submit(client, count=2))["state"] == "failed"
        assert ended(client, submit(client, count=2))["state"] == "done"
        figures = client.get("/metrics").text
    for state in ("done", "failed"):
        assert f'fracture_job_seconds_count{{state="{state}"}} 1.0' in figures
    stages = set(re.findall(r'fracture_stage_seconds_count\{stage="(\w+)"\}', figures))
    assert stages == {"wait", "text", "denoise", "decode", "png"}


def test_counters_start_at_zero(stub: Stub) -> None:
    """A rate needs a sample before the first event."""
    with stub.client() as client:
        figures = client.get("/metrics").text.splitlines()
    for sample in (
        'jobs_total{state="failed"}',
        'refusals_total{kind="busy"}',
        'engine_failures_total{stage="decode"}',
        'http_connections_closed_total{reason="slow_reader"}',
    ):
        assert f"fracture_{sample} 0.0" in figures


def test_readiness_and_what_is_kept_are_figures(stub: Stub) -> None:
    with stub.client() as client:
        assert "fracture_kept_bytes 0.0" in client.get("/metrics").text
        assert ended(client, submit(client))["state"] == "done"
        figures = client.get("/metrics").text
        assert "fracture_ready 1.0" in figures
        assert "fracture_kept_bytes 0.0" not in figures
        stub.service.draining = True
        assert "fracture_ready 0.0" in client.get("/metrics").text


def test_made_up_paths_and_methods_make_no_series(stub: Stub) -> None:
    with stub.client() as client:
        for i in range(20):
            client.request(f"MADE{i}", f"/made/up/{i}")
        figures = client.get("/metrics").text
    assert "made/up" not in figures.casefold()
    assert "MADE" not in figures


def test_probes_are_logged_where_they_fail_only(
    stub: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "runtime.server.middleware")
    with stub.client() as client:
        client.get("/healthz")
        client.get("/v1/info")
        stub.service.draining = True
        client.get("/readyz")
    logged = [record for record in caplog.records if record.name == "runtime.server.middleware"]
    answers = [record.getMessage().partition(" in ")[0] for record in logged]
    assert answers == ["GET /v1/info 200", "GET /readyz 503"]


@pytest.mark.parametrize("broken", [False, True])
def test_what_becomes_of_a_job_is_logged_under_its_requests_id(
    stub: Stub, broken: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the worker's threads too, and whoever asks meanwhile."""
    before = logging.getLogger().handlers[:], logging.getLogger().level
    configure_logs("json", quiet=False)
    try:
        with stub.client() as client:
            if broken:
                stub.backend.fail(layout.UNET, BackendError("the engine broke"))
            headers = {"X-Request-ID": "theirs-1"}
            job = client.post("/v1/jobs", json={"prompt": "a cat"}, headers=headers).json()
            ended(client, job)
    finally:
        logging.getLogger().handlers[:], logging.getLogger().level = before
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (end,) = [line for line in lines if line.get("state")]
    assert (end["job"], end["state"]) == (job["id"], "failed" if broken else "done")
    about = [line for line in lines if line["message"].startswith(f"job {job['id']} ")]
    assert [line["request_id"] for line in about] == ["theirs-1"] * 2
