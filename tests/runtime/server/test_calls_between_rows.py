"""Between two rows of a job, whatever others need is one call of an engine at most."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from engines import layout
from engines.bundle import Bundle
from tests.runtime.server.jobs import ended, grey_picture, in_company, submit
from tests.runtime.server.stub import Gate, Stub
from tests.waiting import wait_until

ROWS = 80
"""More than any job here needs beside a longer one."""
LATENT, LANCZOS = ({"scale": 2, "steps": 1, "upscaler": name} for name in ("latent", "lanczos"))


def record(stub: Stub, row: Gate) -> list[str]:
    """Every call of an engine from now on, as it is made; each row passes `row`."""
    calls: list[str] = []

    def note(component: str) -> Callable[[int], None]:
        def on_call(batch: int) -> None:
            calls.append(component)
            if component == layout.UNET:
                row()

        return on_call

    for component in layout.COMPONENTS:
        stub.backend.on_call[component] = note(component)
    return calls


def run_together(stub: Stub, client: TestClient, **body: Any) -> list[str]:
    """The calls while there are rows of a long job, beside which the other one ends."""
    last = Gate(ROWS)
    with in_company(stub, client) as long:
        other = submit(client, **body)
        calls = record(stub, last)
    assert ended(client, other)["state"] == "done"
    last.wait()
    client.delete(f"/v1/jobs/{long['id']}")
    whole = calls.copy()
    last.open()
    return whole


@pytest.mark.parametrize(
    ("body", "aside"),
    [
        ({"prompt": "one more text"}, {layout.TEXT_ENCODER: 1, layout.VAE_DECODER: 1}),
        (
            {"prompt": "with a second pass", "hires": LANCZOS},
            {layout.TEXT_ENCODER: 1, layout.VAE_DECODER: 2, layout.VAE_ENCODER: 1},
        ),
        (
            {"prompt": "enlarged", "hires": LATENT},
            {layout.TEXT_ENCODER: 1, layout.VAE_DECODER: 1},
        ),
        (
            {"prompt": "given", "count": 3, "init": {"picture": grey_picture()}},
            {layout.TEXT_ENCODER: 1, layout.VAE_DECODER: 3, layout.VAE_ENCODER: 3},
        ),
        (
            {
                "prompt": "in tiles",
                "width": 1024,
                "height": 1024,
                "vae_tiling": "on",
                "init": {"picture": grey_picture()},
            },
            {layout.TEXT_ENCODER: 1, layout.VAE_DECODER: 4, layout.VAE_ENCODER: 4},
        ),
    ],
    ids=["text", "hires", "latents", "pictures", "tiles"],
)
def test_there_is_one_call_at_most(
    stand_in_bundle: Bundle, body: dict[str, Any], aside: dict[str, int]
) -> None:
    stub = Stub(stand_in_bundle, slots=64 * 5, max_pixels=1024 * 1024)
    with stub.client() as client:
        calls = run_together(stub, client, steps=2, **body)
        wait_until(lambda: not stub.service.pipeline.denoiser.slots)
    others = [call for call in calls if call != layout.UNET]
    assert {name: others.count(name) for name in set(others)} == aside
    for before, after in itertools.pairwise(calls):
        assert layout.UNET in (before, after)
