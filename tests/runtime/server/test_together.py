"""Clients of all three protocols at once, the real packages among them, on one server."""

import base64
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx2
import numpy as np
import openai
import webuiapi

from engines import layout
from engines.bundle import Bundle
from runtime.arrays import Pixels
from runtime.request import Request
from tests.runtime.server.jobs import alone, pixels
from tests.runtime.server.stub import Stub, live
from tests.waiting import PATIENCE, wait_until

ROUNDS = 4
KEYS = {"web": "webui-secret", "open": "openai-secret", "job": "our-own-secret"}
STEPS = {"web": 5, "open": 7, "job": 9}


def test_each_gets_its_own_pictures(stand_in_bundle: Bundle) -> None:
    """Exactly those that it would have got alone, though they share calls of the model."""
    stub = Stub(stand_in_bundle, slots=3, keys=KEYS)

    def repeat(make: Callable[[int], Pixels], first: int) -> list[Pixels]:
        return [make(seed) for seed in range(first, first + ROUNDS)]

    with live(stub) as address:
        stub.backend.sessions[layout.UNET].batches.clear()
        with (
            of_webuiapi(address) as web,
            of_openai(address) as open_,
            of_jobs(address) as job,
            ThreadPoolExecutor(len(KEYS)) as threads,
        ):
            makers = {"web": web, "open": open_, "job": job}
            with stub.backend.held():
                made = {
                    name: threads.submit(repeat, make, 100 * number)
                    for number, (name, make) in enumerate(makers.items())
                }
                wait_until(lambda: len(stub.service.jobs.unfinished()) == len(KEYS))
            stub.backend.on_call[layout.UNET] = lambda batch: time.sleep(0.003)
            for number, (name, pictures) in enumerate(made.items()):
                for seed, picture in enumerate(pictures.result(PATIENCE), 100 * number):
                    wanted = Request(f"of {name}", seed=seed, steps=STEPS[name], sampler="Euler a")
                    np.testing.assert_array_equal(picture, alone(stand_in_bundle, wanted))
        entries = stub.backend.sessions[layout.UNET].batches
    assert max(entries) == 6, "the pictures of three clients with guidance in one call"


@contextmanager
def of_webuiapi(address: str) -> Iterator[Callable[[int], Pixels]]:
    api = webuiapi.WebUIApi(
        baseurl=f"{address}/sdapi/v1", username="web", password=KEYS["web"], sampler="Euler a"
    )

    def make(seed: int) -> Pixels:
        made: Any = api.txt2img(
            prompt="of web",
            negative_prompt="blurry",
            seed=seed,
            steps=STEPS["web"],
            cfg_scale=4,
            width=64,
            height=64,
        )
        return np.asarray(made.image)

    yield make
    api.session.close()


@contextmanager
def of_openai(address: str) -> Iterator[Callable[[int], Pixels]]:
    client = openai.OpenAI(base_url=f"{address}/v1", api_key=KEYS["open"], max_retries=0)

    def make(seed: int) -> Pixels:
        extra = {"seed": seed, "steps": STEPS["open"], "sampler": "Euler a"}
        made = client.images.generate(prompt="of open", extra_body=extra)
        assert made.data is not None
        return pixels(base64.b64decode(made.data[0].b64_json or ""))

    with client:
        yield make


@contextmanager
def of_jobs(address: str) -> Iterator[Callable[[int], Pixels]]:
    client = httpx2.Client(
        base_url=address, headers={"Authorization": f"Bearer {KEYS['job']}"}, timeout=30
    )

    def make(seed: int) -> Pixels:
        body = {"prompt": "of job", "seed": seed, "steps": STEPS["job"], "sampler": "Euler a"}
        job = client.post("/v1/jobs", json=body).json()
        assert "event: done" in client.get(f"/v1/jobs/{job['id']}/events").text
        return pixels(client.get(job["pictures"][0]["url"]).content)

    with client:
        yield make
