"""Pictures in progress, in each protocol that shows them."""

import base64
import io
import json
import threading

import httpx2
import openai
import pytest
from PIL import Image

from engines import layout
from runtime.server import stages
from tests.runtime.server.jobs import submit
from tests.runtime.server.stub import Stub, live
from tests.waiting import PATIENCE, wait_until


def size_of(picture: str) -> tuple[int, int]:
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        return image.size


def test_events_show_pictures_in_progress(seeing: Stub) -> None:
    with seeing.client() as client:
        job = submit(client, previews=True, steps=100, width=128)
        events = client.get(f"/v1/jobs/{job['id']}/events").text.split("\n\n")
    shown = [event.partition("data: ")[2] for event in events if event.startswith("event: preview")]
    assert shown
    assert {size_of(json.loads(data)["image"]) for data in shown} == {(16, 8)}


def test_openai_streams_them(seeing: Stub) -> None:
    with live(seeing) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="none") as client:
        events = list(
            client.images.generate(
                prompt="a cat", stream=True, partial_images=2, extra_body={"steps": 150}
            )
        )
    *partial, _ = events
    assert [event.type for event in partial] == ["image_generation.partial_image"] * 2
    assert size_of(partial[0].b64_json) == (64, 64)
    assert partial[0].size == "64x64"


def test_they_are_spread_over_the_run(seeing: Stub) -> None:
    """The only one comes when half of the rows are done."""
    with live(seeing) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="none") as client:
        calls = seeing.backend.sessions[layout.UNET].batches
        before = len(calls)
        stream = client.images.generate(
            prompt="a cat", stream=True, partial_images=1, extra_body={"steps": 150}
        )
        assert next(iter(stream)).type == "image_generation.partial_image"
        assert len(calls) - before >= 75


def test_the_webui_shows_them_unless_told_otherwise(seeing: Stub) -> None:
    body = {"prompt": "a cat", "steps": 150, "width": 128}
    with live(seeing) as address, httpx2.Client(base_url=f"{address}/sdapi/v1") as client:
        making = threading.Thread(
            target=httpx2.post, args=(f"{address}/sdapi/v1/txt2img",), kwargs={"json": body}
        )
        making.start()
        shown: list[str] = []

        def look() -> bool:
            shown.append(client.get("/progress").json()["current_image"] or "")
            return bool(shown[-1])

        wait_until(look)
        assert size_of(shown[-1]) == (16, 8)
        silent = client.get("/progress", params={"skip_current_image": True}).json()
        assert silent["current_image"] is None
        assert silent["progress"] > 0
        making.join(PATIENCE)


def test_clients_of_the_webui_that_never_look_cost_no_previews(
    seeing: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    monkeypatch.setattr(stages, "preview", made.append)
    with seeing.client() as client:
        body = {"prompt": "a cat", "steps": 60}
        assert client.post("/sdapi/v1/txt2img", json=body).status_code == 200
    assert not made


def test_a_bundle_without_a_map_says_so(stub: Stub) -> None:
    with stub.client() as client:
        answer = client.post("/v1/jobs", json={"prompt": "a cat", "previews": True})
        assert answer.status_code == 400
        assert "Export it again" in answer.json()["error"]["message"]
