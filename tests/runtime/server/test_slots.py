"""What a picture counts for in the queue and in a call: by its size, and by its prompts."""

import dataclasses

import pytest

from engines import layout
from engines.bundle import Bundle
from runtime.pipeline import Pipeline
from runtime.request import Request
from runtime.server.jobs import Job
from runtime.server.run import make_runs
from runtime.server.scheduler import Priority, Ticket
from tests.runtime.server.jobs import ended, submit
from tests.runtime.server.stub import Stub
from tests.waiting import PATIENCE

STEPS = 6
SIXTEEN = " AND ".join(f"cat {i}" for i in range(16))
"""With the negative prompt, 17 entries of the UNet's batch."""


def ticket(pipeline: Pipeline, request: Request, usual_width: int = 64) -> Ticket:
    """Of a picture, where the bundle's default size has that width."""
    settings = pipeline.settle([request])
    table = pipeline.table(settings[0])
    rows = table.rows + pipeline.rows_to_follow(settings[0])
    job = Job("alice", settings, [rows], Priority.NORMAL, created=0, deadline=1)
    entries = pipeline.prompts(settings[0]).entries
    defaults = dataclasses.replace(pipeline.bundle.manifest.defaults, width=usual_width)
    (run,) = make_runs(job, table, entries, defaults)
    return run.ticket


@pytest.mark.parametrize(
    ("options", "cost", "slots"),
    [
        ({}, STEPS, 1),
        ({"width": 128}, 2 * STEPS, 2),
        ({"cfg": 1}, STEPS / 2, 1),
        ({"cfg": 1, "width": 256}, 2 * STEPS, 2),
        ({"prompt": "a cat AND a dog"}, 1.5 * STEPS, 1.5),
        ({"prompt": SIXTEEN}, 8.5 * STEPS, 8.5),
        ({"prompt": SIXTEEN, "width": 128}, 17 * STEPS, 17),
    ],
)
def test_a_picture_counts_by_its_size_and_its_entries(
    stub: Stub, options: dict[str, object], cost: float, slots: float
) -> None:
    """Of the bundle's default size, 64x64, with guidance, which takes two entries."""
    request = Request(**{"prompt": "a cat", "steps": STEPS, **options})  # type: ignore[arg-type]
    counted = ticket(stub.service.pipeline, request)
    assert (counted.cost, counted.slots) == (cost, slots)


def test_small_pictures_are_less_work_and_take_as_much_of_a_call(stub: Stub) -> None:
    """Each entry has a place of its own."""
    pipeline = stub.service.pipeline
    for prompt, slots in (("a cat", 1), (SIXTEEN, 8.5)):
        counted = ticket(pipeline, Request(prompt, steps=STEPS, width=64), usual_width=256)
        assert (counted.cost, counted.slots) == (slots * STEPS / 4, slots)


def test_prompts_that_take_more_than_all_slots_go_alone(stand_in_bundle: Bundle) -> None:
    """And in calls that are no larger than those of others."""
    stub = Stub(stand_in_bundle, slots=4)
    company: list[tuple[int, ...]] = []
    with stub.client() as client:
        denoiser = stub.service.pipeline.denoiser
        batches = stub.backend.sessions[layout.UNET].batches
        with stub.backend.held() as waiting:
            jobs = [submit(client, steps=STEPS)]
            assert waiting.wait(PATIENCE)
            jobs += [submit(client, steps=STEPS, prompt=each) for each in (SIXTEEN, "last")]
            batches.clear()
        stub.backend.on_call[layout.UNET] = lambda batch: company.append(
            tuple(slot.entries for slot in denoiser.slots)
        )
        for job in jobs:
            assert ended(client, job)["state"] == "done"
    assert set(company) == {(2,), (17,)}
    assert max(batches) == 2 * 4
