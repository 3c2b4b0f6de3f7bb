"""What tests of several protocols do with jobs."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from starlette.testclient import TestClient

from engines import layout
from engines.backend import Choice
from engines.bundle import Bundle
from runtime.arrays import Pixels
from runtime.metadata import RECORD_KEY, Origin, parse_record
from runtime.pipeline import Pipeline
from runtime.request import Request, Settings
from tests.runtime.server.stub import Gate, Stub
from tests.runtime.stand_ins import StandInBackend
from tests.waiting import wait_until

COMPANY = Request("a cat", seed=3, steps=100)
"""A picture that is in the denoiser from before another job comes until after its end."""


def grey_picture() -> str:
    """A picture to start from, as base64."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "grey").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def submit(client: TestClient, **body: object) -> dict[str, Any]:
    """Queue a job."""
    answer = client.post("/v1/jobs", json={"prompt": "a cat", "seed": 3, **body})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


def ended(client: TestClient, job: dict[str, Any]) -> dict[str, Any]:
    """Wait for a job's end."""
    seen: dict[str, Any] = {}

    def look() -> bool:
        seen.update(client.get(f"/v1/jobs/{job['id']}").json())
        return seen["state"] in ("done", "failed", "cancelled")

    wait_until(look)
    return seen


@contextmanager
def in_company(stub: Stub, client: TestClient) -> Iterator[dict[str, Any]]:
    """Start the job `COMPANY`, and hold its first row meanwhile; gives that job."""
    first = Gate()
    stub.backend.on_call[layout.UNET] = first
    job = submit(client, prompt=COMPANY.prompt, seed=COMPANY.seed, steps=COMPANY.steps)
    first.wait()
    del stub.backend.on_call[layout.UNET]
    try:
        yield job
    finally:
        first.open()


def record_of(png: bytes) -> tuple[Settings, Origin]:
    """What a picture says of how it was made."""
    with PngImageFile(io.BytesIO(png)) as image:
        return parse_record(str(image.text[RECORD_KEY]))


def pixels(png: bytes) -> Pixels:
    """What a PNG file shows."""
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image)


def alone(bundle: Bundle, request: Request) -> Pixels:
    """The picture that the pipeline makes by itself."""
    with Pipeline(bundle, Choice(StandInBackend(), "asked for")) as pipeline:
        (picture,) = pipeline.generate(pipeline.settle([request]))
    return picture.pixels
