"""Requests that are made to hurt: refused at once, whatever protocol they speak."""

import io
import logging
import tempfile
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image

from engines.bundle import Bundle
from runtime.init_settings import InitSettings, MaskSettings
from runtime.request import Request, settle
from runtime.server.jobs import MOST_ENDED, Job, JobStore, State
from runtime.server.logs import TextFormatter
from runtime.server.scheduler import Priority
from runtime.source_picture import SourcePicture
from tests.runtime.server.stub import Stub

JOBS = "/v1/jobs"
WEBUI = "/sdapi/v1/txt2img"
OPENAI = "/v1/images/generations"
EDITS = "/v1/images/edits"
HALF = r'"\ud800"'
"""A half of a character, which JSON can write and UTF-8 cannot."""


def form(*fields: tuple[str, bytes], picture: bytes) -> bytes:
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value + b"\r\n"
        for name, value in fields
    ]
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    return b"".join(parts) + head + picture + b"\r\n--x--\r\n"


def noise(side: int) -> bytes:
    """A PNG file that does not compress."""
    file = io.BytesIO()
    Image.effect_noise((side, side), 100).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (WEBUI, '"seed_resize_from_w": 80000, "seed_resize_from_h": 80000'),
        (JOBS, '"noise": {"from_width": 80000, "from_height": 80000}'),
        (JOBS, '"noise": {"from_width": 64, "from_height": -64}'),
        (WEBUI, f'"steps": {"9" * 400}'),
        (WEBUI, f'"enable_hr": true, "width": {"9" * 400}'),
        (WEBUI, '"enable_hr": true, "denoising_strength": 5e-324'),
        (WEBUI, '"enable_hr": true, "width": 0, "hr_resize_x": 256'),
        (JOBS, '"width": 0, "hires": {"width": 256}'),
        (JOBS, '"hires": {"scale": NaN}'),
        (JOBS, '"cfg": 1e400'),
        (OPENAI, f'"seed": {"9" * 400}'),
        (WEBUI, f'"sampler_name": {HALF}'),
        (WEBUI, f'"negative_prompt": {HALF}'),
        (WEBUI, f'"hr_prompt": {HALF}'),
        (WEBUI, f'"override_settings": {{"samples_format": {HALF}}}'),
        (WEBUI, f'"override_settings": {{{HALF}: 1}}'),
        (WEBUI, f'"alwayson_scripts": {{"a": {{"args": [false, {"[" * 900}{"]" * 900}]}}}}'),
        (JOBS, f'"negative": {HALF}'),
        (JOBS, f"{HALF}: 1"),
        (OPENAI, f'"quality": {HALF}'),
        (OPENAI, f'"model": {HALF}'),
        (JOBS, f'"negative": "{"BREAK " * 300}"'),
        (JOBS, f'"negative": "{"(" * 3999}"'),
        (JOBS, "[" * 100_000 + "]" * 100_000),
    ],
)
def test_what_no_field_may_hold(stub: Stub, path: str, fields: str) -> None:
    with stub.client() as client:
        body = f'{{"prompt": "a cat", {fields}}}'.encode()
        answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 404), answer.text
        assert isinstance(answer.json()["error"], dict | str)
        assert not stub.service.jobs.unfinished()


def test_a_prompt_has_no_more_tokens_than_characters(stub: Stub) -> None:
    """54 chunks of 75 tokens are the most that 4000 characters have, a token each."""
    with stub.client() as client:
        for breaks, status in ((53, 202), (54, 400)):
            answer = client.post(JOBS, json={"prompt": "a BREAK " * breaks + "a"})
            assert answer.status_code == status, answer.text


def test_files_of_forms_are_never_written(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system is read-only, there is nowhere to write."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    picture = noise(1200)
    assert len(picture) > 1024**2
    with stub.client() as client:
        answer = client.post(
            EDITS,
            data={"prompt": "a cat", "size": "64x64"},
            files={"image": ("a.png", picture, "image/png")},
        )
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("multipart/form-data; boundary=x", form(("n", b"1"), ("n", b"2"), picture=b""), "once"),
        ("multipart/form-data; boundary=x", form(picture=b"")[:-20], "0 pictures"),
        ("multipart/form-data; boundary=x", b"broken", "cannot be read"),
        ("multipart/form-data", form(picture=b""), "no multipart/form-data"),
        ('multipart/form-data; boundary="\\""', form(picture=b""), "no multipart/form-data"),
        ("application/x-www-form-urlencoded", b"prompt=a", "no multipart/form-data"),
        ("application/json", b"{}", "no multipart/form-data"),
        ("multipart/form-data; boundary=x", form(*[("a", b"")] * 41, picture=b""), "Too many"),
    ],
)
def test_forms_that_are_none(stub: Stub, kind: str, body: bytes, message: str) -> None:
    with stub.client() as client:
        answer = client.post(EDITS, content=body, headers={"Content-Type": kind})
        assert answer.status_code == 400
        assert message in answer.json()["error"]["message"]


def test_the_charset_of_a_form_is_ours(stub: Stub) -> None:
    """Python decodes a megabyte of punycode for minutes."""
    with stub.client() as client:
        body = form(("prompt", "naïve-".encode() * 100), picture=noise(64))
        kind = "multipart/form-data; boundary=x; charset=punycode"
        answer = client.post(EDITS, content=body, headers={"Content-Type": kind})
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"][0]["revised_prompt"].startswith("naïve-naïve")


def test_made_up_methods_are_counted_as_one(stub: Stub) -> None:
    with stub.client() as client:
        for i in range(5):
            client.request(f"MAKE{i}", "/healthz")
        text = stub.service.metrics.text().decode()
        assert 'method="other"' in text
        assert "MAKE" not in text


def test_a_request_cannot_forge_a_line_of_the_log(
    stub: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    with stub.client() as client, caplog.at_level(logging.INFO):
        client.get("/a%0a2026-01-01%20INFO%20root:%20all%20is%20well%1b[31m%c2%85")
    (record,) = (each for each in caplog.records if "all is well" in each.getMessage())
    line = TextFormatter().format(record)
    assert "\\n2026-01-01" in line
    assert "\\x1b[31m\\x85" in line
    assert line.isprintable()


def ended_jobs(bundle: Bundle, count: int, init: InitSettings | None = None) -> list[Job]:
    """Jobs that were cancelled, one a second."""
    settings = settle(Request("a cat", seed=1, init=init), bundle.manifest)
    jobs = [
        Job("alice", settings, [1], Priority.NORMAL, created=0, deadline=9) for _ in range(count)
    ]
    for second, job in enumerate(jobs):
        job.end(State.CANCELLED, now=second)
    return jobs


def test_what_ended_jobs_were_made_from_counts(stand_in_bundle: Bundle) -> None:
    """Jobs with large pictures to start from, each cancelled at once, do not fill the memory."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    mask = MaskSettings(SourcePicture.of(pixels[..., 0] + 255))
    jobs = ended_jobs(stand_in_bundle, 5, InitSettings(SourcePicture.of(pixels), mask=mask))
    store = JobStore(keep_seconds=3600, keep_bytes=3 * 4 * 64 * 64 + 1000)
    for job in jobs:
        store.add(job)
    store.sweep(now=10)
    assert store.ended() == jobs[2:]


def test_no_more_than_so_many_ended_jobs_are_kept(stand_in_bundle: Bundle) -> None:
    store = JobStore(keep_seconds=3600, keep_bytes=10**9)
    for job in ended_jobs(stand_in_bundle, MOST_ENDED):
        store.add(job)
    late = ended_jobs(stand_in_bundle, 1)[0]
    late.ended_at = MOST_ENDED + 1.0
    store.add(late)
    store.sweep(now=10)
    kept = store.ended()
    assert len(kept) == MOST_ENDED
    assert kept[-1] is late
