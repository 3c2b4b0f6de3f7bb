"""Pipelines that threads use and close at any moment, on engines that fail now and then."""

import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from engines import layout
from engines.any_batch import open_to_any_batch
from engines.backend import Choice
from engines.backends.fixed_sizes import FixedSizesSession
from engines.bundle import Bundle
from engines.errors import BackendError, InternalError
from engines.session import Array, Session
from runtime.pipeline import Pipeline
from runtime.request import Request
from runtime.steps import Cancelled, Step
from tests.runtime.stand_ins import StandInBackend, StandInSession, open_stand_in

PIPELINES = 12
THREADS = 4


class Fragile(StandInBackend):
    """Opens sessions that take a moment, and notes what no session may go through."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance
        self.faults: list[str] = []
        self.open: set[Session] = set()

    def open_session(self, bundle: Bundle, component: str) -> Session:
        self._fail()
        if component == layout.TEXT_ENCODER:
            return FragileSession(self, component)

        def compile_for(_sizes: Mapping[str, int]) -> Session:
            time.sleep(0.002)
            self._fail()
            return FragileSession(self, component)

        spec = bundle.component(component)
        return open_to_any_batch(FixedSizesSession(spec, compile_for), component, spec, most=1)

    def _fail(self) -> None:
        if self.chance.random() < 0.1:
            raise BackendError("no memory left")


class FragileSession(StandInSession):
    """Runs for a moment, alone and open."""

    def __init__(self, backend: Fragile, component: str) -> None:
        super().__init__(component)
        self._backend = backend
        self._running = threading.Lock()
        backend.open.add(self)

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        if self.closed:
            self._backend.faults.append(f"{self.component} ran when it was closed")
        alone = self._running.acquire(blocking=False)
        if not alone:
            self._backend.faults.append(f"{self.component} ran twice at once")
        try:
            time.sleep(0.0005)
            return super()._execute(feeds)
        finally:
            if alone:
                self._running.release()

    def close(self) -> None:
        if self._running.locked():
            self._backend.faults.append(f"{self.component} was closed while it ran")
        super().close()
        self._backend.open.discard(self)


def use(pipeline: Pipeline, seed: int, unexpected: list[BaseException]) -> None:
    """Make pictures again and again; some runs are given up, by either way or by a mistake."""
    chance = random.Random(seed)

    def on_step(_step: Step) -> None:
        if chance.random() < 0.05:
            raise Cancelled
        if chance.random() < 0.03:
            raise ZeroDivisionError

    try:
        while True:
            request = Request(
                "a cat",
                seed=seed,
                count=chance.randrange(1, 4),
                steps=chance.randrange(1, 4),
                sampler=chance.choice(["Euler a", "DPM++ 2M"]),
                width=chance.choice([64, 128]),
            )
            try:
                for _ in pipeline.generate(request, on_step):
                    if chance.random() < 0.1:
                        break
            except (BackendError, ZeroDivisionError):
                continue
    except InternalError as error:
        if "the pipeline is closed" not in str(error):
            unexpected.append(error)
    except BaseException as error:
        unexpected.append(error)


def test_a_pipeline_ends_whole_at_any_moment(tmp_path: Path) -> None:
    """Every session is closed once nobody runs it, and everyone is told."""
    chance = random.Random(0)
    bundle = open_stand_in(tmp_path)
    for _ in range(PIPELINES):
        backend, unexpected = Fragile(chance), list[BaseException]()
        pipeline = Pipeline(bundle, Choice(backend, "asked for"))
        users = [
            threading.Thread(target=use, args=(pipeline, chance.randrange(1000), unexpected))
            for _ in range(THREADS)
        ]
        for user in users:
            user.start()
        time.sleep(chance.random() * 0.1)
        closing = [threading.Thread(target=pipeline.close) for _ in range(2)]
        for closer in closing:
            closer.start()
        for thread in (*users, *closing):
            thread.join(30)
            assert not thread.is_alive()
        assert not unexpected
        assert not backend.faults
        assert not backend.open
