"""Progress, previews, cancellation and threads, on stand-ins."""

import asyncio
import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from engines.backend import Choice
from engines.bundle import Bundle, open_bundle
from engines.errors import InternalError, SettingError
from runtime.arrays import Pixels
from runtime.pipeline import Pipeline
from runtime.preview import preview
from runtime.request import Request
from runtime.steps import Cancelled, Step
from tests.runtime.fake_unet import embeddings as text
from tests.runtime.fake_unet import predict, slot
from tests.runtime.stand_ins import MANIFEST, StandInBackend, write_bundle
from tests.waiting import PATIENCE

FACTORS = ((0.5, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, 0.0, 0.5), (0.0, 0.0, 0.0), (0.2, 0.0, -0.2))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    latents = dataclasses.replace(MANIFEST.latents, preview=FACTORS)
    manifest = dataclasses.replace(MANIFEST, latents=latents)
    return open_bundle(write_bundle(tmp_path_factory.mktemp("bundle"), manifest))


def pipeline_of(bundle: Bundle) -> Pipeline:
    return Pipeline(bundle, Choice(StandInBackend(), "asked for"))


def test_a_preview_is_a_linear_map() -> None:
    latents = np.zeros((4, 2, 3), np.float32)
    latents[0, 0, 0], latents[1, 1, 2] = 1, -4
    pixels = preview(latents, FACTORS)
    assert pixels.shape == (2, 3, 3)
    assert pixels[0, 0].tolist() == [217, 128, 102]
    assert pixels[1, 2].tolist() == [153, 0, 102]
    with pytest.raises(SettingError, match="no factors for previews"):
        preview(latents, ())


@pytest.mark.parametrize("sampler", ["Euler a", "DDIM", "DPM++ 2M", "Heun"])
def test_a_watched_run_keeps_what_the_model_says_of_the_clean_latents(sampler: str) -> None:
    run = slot(seed=2, sampler=sampler, steps=5, guidance=1)
    unwatched = slot(seed=2, sampler=sampler, steps=5, guidance=1)
    assert unwatched.clean is None
    run.watch()
    while not run.finished:
        x, row = run.latents.astype(np.float64), run.row
        scaled = x * run.table.input_scale[row]
        said = predict(scaled, run.table.timesteps[row], text(2)).astype(np.float32)
        signal, noise = run.table.start[row]
        for each in (run, unwatched):
            each.read_prediction(said[None])
            each.advance()
        assert run.clean is not None
        np.testing.assert_allclose(run.clean, (x - noise * said) / signal, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(run.latents, unwatched.latents)


def test_steps_show_every_picture_that_advanced(bundle: Bundle) -> None:
    seen: list[tuple[int, list[int], list[Pixels]]] = []

    def keep(step: Step) -> None:
        previews = [step.preview(i) for i in range(len(step.settings))]
        seen.append((step.done, [each.seed for each in step.settings], previews))

    wanted = [Request("a cat", seed=1, steps=2), Request("a dog", seed=5, steps=3, width=128)]
    with pipeline_of(bundle) as pipeline:
        assert len(list(pipeline.generate(wanted, keep, previews=True))) == 2
    assert [(done, seeds) for done, seeds, _ in seen] == [
        (0, []),
        (2, [1, 5]),
        (4, [1, 5]),
        (5, [5]),
    ]
    assert [[shown.shape for shown in previews] for *_, previews in seen[1:]] == [
        [(8, 8, 3), (8, 16, 3)],
        [(8, 8, 3), (8, 16, 3)],
        [(8, 16, 3)],
    ]


def test_previews_that_were_not_asked_for(bundle: Bundle) -> None:
    def look(step: Step) -> None:
        if step.done:
            step.preview()

    with pipeline_of(bundle) as pipeline, pytest.raises(SettingError, match="previews=True"):
        list(pipeline.generate(Request("a cat"), look))


def test_there_is_no_preview_before_the_first_row(bundle: Bundle) -> None:
    with pipeline_of(bundle) as pipeline, pytest.raises(SettingError, match="before the first row"):
        list(pipeline.generate(Request("a cat"), lambda step: step.preview(), previews=True))


def test_a_request_or_settings_or_several(bundle: Bundle) -> None:
    request = Request("a cat", seed=3)
    with pipeline_of(bundle) as pipeline:
        (settings,) = pipeline.settle([request])
        made = [
            *pipeline.generate(request),
            *pipeline.generate(settings),
            *pipeline.generate([settings, request]),
        ]
        assert len({picture.png() for picture in made}) == 1
        assert made[1].settings is settings
        with pytest.raises(SettingError, match="0 steps"):
            pipeline.generate(Request("a cat", steps=0))


def test_cancelling_keeps_what_is_finished(bundle: Bundle) -> None:
    def stop(step: Step) -> None:
        if step.done == 4:
            raise Cancelled

    with pipeline_of(bundle) as pipeline:
        alone = {p.settings.seed: p.png() for p in pipeline.generate(Request("a", seed=1, count=3))}
        wanted = [Request("a", seed=1, steps=1), Request("a", seed=2), Request("a", seed=3)]
        finished = list(pipeline.generate(wanted, stop))
        assert [picture.settings.seed for picture in finished] == [1]
        assert pipeline.denoiser.slots == ()
        again = {p.settings.seed: p.png() for p in pipeline.generate(Request("a", seed=1, count=3))}
    assert again == alone


def test_another_error_of_a_caller_reaches_it(bundle: Bundle) -> None:
    def fail(step: Step) -> None:
        if step.done:
            raise ZeroDivisionError

    with pipeline_of(bundle) as pipeline:
        with pytest.raises(ZeroDivisionError):
            list(pipeline.generate(Request("a"), fail))
        assert pipeline.denoiser.slots == ()
        assert len(list(pipeline.generate(Request("a")))) == 1


def test_threads_take_turns(bundle: Bundle) -> None:
    inside = threading.Semaphore(1)

    def alone(step: Step) -> None:
        if step.done == 0:
            assert inside.acquire(blocking=False), "two runs at once"
        if step.done == step.total:
            inside.release()

    with pipeline_of(bundle) as pipeline:

        def make(seed: int) -> bytes:
            steps = 2 + seed % 3
            (picture,) = pipeline.generate(Request(f"a {seed}", seed=seed, steps=steps), alone)
            return picture.png()

        wanted = [make(seed) for seed in range(12)]
        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(make, range(12), timeout=PATIENCE)) == wanted


def test_a_run_inside_another_ones_loop(bundle: Bundle) -> None:
    """Between two pictures of a run another one may go on: both make what each makes alone."""
    outer = [Request("a", seed=1, steps=1), Request("a", seed=2, sampler="Euler a", steps=6)]
    inner = Request("b", seed=3, sampler="DPM++ 2M", steps=2)
    with pipeline_of(bundle) as pipeline:
        alone = [picture.png() for picture in pipeline.generate(outer)]
        (wanted,) = (picture.png() for picture in pipeline.generate(inner))
        made = []
        for picture in pipeline.generate(outer):
            assert pipeline.denoiser.slots == ()
            assert [each.png() for each in pipeline.generate(inner)] == [wanted]
            made.append(picture.png())
    assert made == alone


def test_a_thread_does_not_wait_for_itself(bundle: Bundle) -> None:
    """As it would in `on_step`, whoever began the run."""
    with pipeline_of(bundle) as pipeline:

        def ask(step: Step) -> None:
            if step.done == step.total:
                next(pipeline.generate(Request("b")))

        pictures = pipeline.generate([Request("a", steps=1), Request("a", steps=2)], ask)
        beginning = threading.Thread(target=next, args=(pictures,))
        beginning.start()
        beginning.join(PATIENCE)
        with pytest.raises(InternalError, match="in the middle of another one"):
            next(pictures)
        assert len(list(pipeline.generate(Request("b")))) == 1


def test_a_run_that_rests_keeps_no_thread_waiting(bundle: Bundle) -> None:
    wanted = Request("a", seed=1, count=6, steps=1)
    made: list[int] = []
    with pipeline_of(bundle) as pipeline:
        alone = [picture.png() for picture in pipeline.generate(wanted)]
        pictures = pipeline.generate(wanted)
        found = [next(pictures).png()]

        def make() -> None:
            made.append(len(list(pipeline.generate(Request("b")))))
            found.append(next(pictures).png())

        for _ in range(4):
            thread = threading.Thread(target=make)
            thread.start()
            thread.join(PATIENCE)
        assert made == [1, 1, 1, 1]
        assert [*found, *(picture.png() for picture in pictures)] == alone


def test_tasks_in_a_pool_smaller_than_they_are(bundle: Bundle) -> None:
    """Whatever thread of the pool is free goes on with any run: none gets an error or waits."""
    with pipeline_of(bundle) as pipeline, ThreadPoolExecutor(2) as pool:

        async def consume(seed: int) -> int:
            pictures = pipeline.generate(Request("a", seed=seed, count=3, steps=2))
            count = 0
            loop = asyncio.get_running_loop()
            while await loop.run_in_executor(pool, next, pictures, None) is not None:
                count += 1
            return count

        async def consume_all() -> list[int]:
            tasks = asyncio.gather(*map(consume, range(6)))
            return await asyncio.wait_for(tasks, PATIENCE)

        assert asyncio.run(consume_all()) == [3] * 6


def test_a_run_that_another_thread_ends_lets_the_next_one_in(bundle: Bundle) -> None:
    with pipeline_of(bundle) as pipeline:
        pictures = pipeline.generate(Request("a", count=6, steps=1))
        next(pictures)
        other = threading.Thread(target=pictures.close)  # type: ignore[attr-defined]
        other.start()
        other.join()
        assert len(list(pipeline.generate(Request("b")))) == 1
