"""From settings to pictures: the parts of the runtime, put together around one bundle."""

import os
import reprlib
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from engines import layout
from engines.backend import AUTO, Choice, choose_backend
from engines.bundle import Bundle, open_bundle
from engines.errors import SettingError
from runtime.arrays import Latents
from runtime.calls import Calls, complete
from runtime.conditioning import Conditioning
from runtime.denoiser import Denoiser
from runtime.guidance import guidance_of
from runtime.metadata import Origin
from runtime.models import Models
from runtime.noise_schedule import NoiseSchedule, read_noise_schedule
from runtime.pass_tables import first_table, second_table
from runtime.passes import Passes
from runtime.plain_values import plain
from runtime.png import Picture
from runtime.prompt_plan import PromptPlan, PromptPlanner
from runtime.request import Request, Settings, check_settings, settle
from runtime.samplers.table import Table
from runtime.sizes import check_size, check_tokens, least_tokens
from runtime.slot import Slot
from runtime.start import Start
from runtime.steps import Cancelled, OnStep, Step, ignore
from runtime.textual_inversion import open_vocabulary
from runtime.turns import Life, Turns


class Pipeline:
    """One bundle on one backend. Graphs are loaded when they are first needed, and once.

    A context manager. `generate` and `settle` may be called from any thread.

    Attributes:
        bundle: the opened bundle.
        choice: the backend, and why it was taken.
        origin: what pictures say about where they were made.
    """

    def __init__(self, bundle: Bundle, choice: Choice, max_batch: int | None = None) -> None:
        self.bundle = bundle
        self.choice = choice
        self._models = Models(bundle, choice.backend, plain(_Numbers(max_batch)).max_batch)
        self._passes = Passes(self._models, bundle.manifest.latents)
        self._turns = Turns(
            "this thread asks for a picture in the middle of another one, in on_step or in a "
            "signal's handler: wait until that one is there"
        )
        self._life = Life()
        self._planning = threading.Lock()
        manifest = bundle.manifest
        self.origin = Origin(manifest.name, manifest.identity, choice.backend.name)

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], backend: str = AUTO, max_batch: int | None = None
    ) -> Self:
        """Open the bundle at `path` on a backend; no graph is loaded yet.

        Args:
            path: the bundle's directory.
            backend: a backend's name, or "auto" for the fastest here.
            max_batch: entries of one UNet call at most, by default as many as pay on the
                backend; a picture with guidance takes two.

        Raises:
            BundleError: the bundle is foreign, damaged or of another revision.
            SettingError: no backend has that name, or no picture with guidance fits into a call.
            BackendError: the backend cannot be used here.
        """
        bundle = open_bundle(Path(path))
        return cls(bundle, choose_backend(backend, bundle), max_batch)

    def settle(self, requests: Sequence[Request]) -> list[Settings]:
        """The settings of every picture that the requests ask for; see `runtime.request.settle`.

        Raises:
            SettingError: likewise, or the backend does not take a picture's size or prompts, a
                sampler cannot take that many steps, or `requests` is something else.
        """
        settled: list[Settings] = []
        for request in _listed(requests, (Request,), "settle takes a list of Requests"):
            pictures = settle(request, self.bundle.manifest)
            self._check_steps(pictures[0])  # of the others too: they differ by their seeds
            for settings in pictures:
                self._check_limits(settings)
            settled += pictures
        return settled

    def _check_steps(self, settings: Settings) -> None:
        self.table(settings)
        self.rows_to_follow(settings)

    def _checked(self, settings: Settings) -> Settings:
        """Settings that anyone may have made or changed, held to what `settle` holds its own to."""
        settings = check_settings(settings, self.bundle.manifest)
        self._check_limits(settings)
        return settings

    def _check_limits(self, settings: Settings) -> None:
        downscale = self.bundle.manifest.latents.downscale
        check_size(settings, self._models.limits, downscale)
        plans = [self.prompts(settings)]
        if settings.hires is not None:
            plans.append(self._plan(settings, settings.hires.steps, settings.steps))
        tokens = max(plan.length for plan in plans) * layout.CHUNK_TOKENS
        check_tokens(tokens, settings, self._models.limits, downscale)

    def prompts(self, settings: Settings) -> PromptPlan:
        """The chunks of a picture's prompts at each step of its first pass; loads no graph.

        Raises:
            SettingError: they are too many.
        """
        return self._plan(settings, settings.steps)

    def _plan(self, settings: Settings, steps: int, steps_before: int = 0) -> PromptPlan:
        with self._planning:
            return self._planner.plan(
                settings.prompt,
                settings.negative,
                steps,
                settings.cfg,
                settings.clip_skip,
                steps_before,
            )

    def generate(
        self,
        wanted: Request | Settings | Sequence[Request | Settings],
        on_step: OnStep = ignore,
        *,
        previews: bool = False,
    ) -> Iterator[Picture]:
        """Make pictures, each yielded as soon as it is finished.

        Pictures share calls of the UNet, and a new one starts where another has ended; what a
        picture shows does not depend on the others. Closing the iterator, or raising `Cancelled`
        in `on_step`, gives up what is not finished.

        Any thread may call this, and ask for the pictures. One picture at a time is gone on to:
        others wait until it is there. Between two pictures of a run another one may go on.

        Args:
            wanted: what is asked for, or what `settle` returned, which may have been changed.
            on_step: told of progress before the first row and after each.
            previews: whether steps can show previews, which costs some microseconds a row.

        Returns:
            The pictures; nothing is computed before the first one is asked for.

        Raises:
            SettingError: as `settle`, or `wanted` is something else.
            InternalError: `on_step` asks for a picture of another run, or the pipeline is closed.
            BackendError: the engine fails, or the model overflows.
        """
        settings: list[Settings] = []
        kinds, takes = (Request, Settings), "generate takes Requests or Settings, one or several"
        several = [wanted] if isinstance(wanted, kinds) else wanted
        for each in _listed(several, kinds, takes):
            settings += self.settle([each]) if isinstance(each, Request) else [self._checked(each)]
        waiting = deque((each, self.table(each)) for each in settings)
        total = sum(table.rows + self.rows_to_follow(each) for each, table in waiting)
        return self._pictures(_Run(waiting, total, on_step, previews))

    def _pictures(self, run: "_Run") -> Iterator[Picture]:
        rows = self._rows(run)
        while (picture := self._turns.take(self._next, rows, run)) is not None:
            yield picture

    def _next(self, rows: Iterator[Picture], run: "_Run") -> Picture | None:
        """Go on to a run's next picture, or its end, with its slots alone in the denoiser.

        Between two pictures they are not there: another run may go on, or this one never.
        """
        if run.running:
            self.denoiser.clear()
        for slot in run.running:
            self.denoiser.add(slot)
        try:
            return next(rows, None)
        finally:
            if run.running:
                self.denoiser.clear()

    def _rows(self, run: "_Run") -> Iterator[Picture]:
        factors = self.bundle.manifest.latents.preview
        done = 0
        try:
            run.on_step(Step(done, run.total, {}, factors))
            if run.waiting:
                self._life.use(self._begin_first, run)
            while run.waiting or run.running:
                advanced, ended = self._life.use(self._advance, run)
                done += len(advanced)
                run.on_step(Step(done, run.total, advanced, factors))
                for slot, settings in ended.items():
                    picture = self._life.use(self._end, slot, settings, run)
                    if picture is not None:
                        yield picture
        except Cancelled:
            return

    def _begin_first(self, run: "_Run") -> None:
        with self._preparing(run.waiting[0][0]):
            self.denoiser.clear()  # Ctrl-C may have left slots of another run there
            self._begin(run)

    def _advance(self, run: "_Run") -> tuple[dict[Slot, Settings], dict[Slot, Settings]]:
        """Compute a row: for which pictures, and those of them whose pass has ended."""
        while run.waiting and self._has_room(run.running, run.waiting[0][0]):
            self._begin(run)
        advanced = dict(run.running)
        return advanced, {slot: run.running.pop(slot) for slot in self.denoiser.advance()}

    def _end(self, slot: Slot, settings: Settings, run: "_Run") -> Picture | None:
        """The picture of a pass that has ended; None where another pass follows, which begins."""
        following = complete(self.resume(slot.latents, settings))
        if following is None:
            return complete(self.finish(slot.latents, settings))
        self._join(following, settings, run)
        return None

    def _preparing(self, settings: Settings) -> AbstractContextManager[None]:
        """Load what a picture's first pass and its end need, beside what the block does."""
        downscale = self.bundle.manifest.latents.downscale
        height, width = settings.height // downscale, settings.width // downscale
        tokens = self.prompts(settings).length * layout.CHUNK_TOKENS
        return self._models.preparing(height, width, tokens, settings.vae_tiling)

    def _begin(self, run: "_Run") -> None:
        settings, table = run.waiting.popleft()
        slot = complete(self.start(settings, table, (ahead for ahead, _ in run.waiting)))
        self._join(slot, settings, run)

    def _join(self, slot: Slot, settings: Settings, run: "_Run") -> None:
        if run.previews:
            slot.watch()
        run.running[slot] = settings
        self.denoiser.add(slot)

    def close(self) -> None:
        """Release every loaded graph, after the row that is being computed in another thread.

        A run that has not ended raises an InternalError when it is gone on with, as a new one
        does.

        Raises:
            InternalError: a signal's handler calls it in the middle of a row. Nothing is released
                yet, but no run goes on.
        """
        self._life.end(self._models.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @cached_property
    def _noise_schedule(self) -> NoiseSchedule:
        return read_noise_schedule(self.bundle.path / layout.SCHEDULER_FILE)

    @cached_property
    def _planner(self) -> PromptPlanner:
        vocabulary = open_vocabulary(self.bundle)
        return PromptPlanner(vocabulary, least_tokens(self._models.limits) // layout.CHUNK_TOKENS)

    @property
    def denoiser(self) -> Denoiser:
        """The denoising loop, whose graph is loaded when this is first asked for."""
        return self._models.denoiser

    def rows_to_follow(self, settings: Settings) -> int:
        """The rows of a picture's passes after its first.

        Raises:
            SettingError: the sampler cannot take that many steps.
        """
        table = second_table(settings, self._noise_schedule)
        return 0 if table is None else table.rows

    def table(self, settings: Settings) -> Table:
        """The sampler's table for a picture's first pass.

        Raises:
            SettingError: the sampler cannot take that many steps.
        """
        return first_table(settings, self._noise_schedule)

    def _has_room(self, running: dict[Slot, Settings], settings: Settings) -> bool:
        """Whether another picture fits into a call; one that never fits goes alone."""
        taken = sum(slot.most_entries for slot in running)
        return not taken or taken + self.prompts(settings).entries <= self._models.max_batch

    def start(
        self, settings: Settings, table: Table, ahead: Iterable[Settings] = ()
    ) -> Calls[Slot]:
        """Encode a picture's text and make its run, which the denoiser then takes.

        Args:
            settings: the picture's.
            table: what `table` returned for it.
            ahead: pictures that come next, whose texts may share the call of the text encoder.

        Raises:
            SettingError: pixels that the settings name are not there.
            BackendError: the engine fails, or the model overflows.
        """
        text = yield from self._models.text.encode(self.prompts(settings), map(self.prompts, ahead))
        start = yield from self._passes.first(settings, table)
        return _slot(settings, table, start, text)

    def resume(self, latents: Latents, settings: Settings) -> Calls[Slot | None]:
        """The run that follows a finished one, where a picture has a second pass.

        Args:
            latents: [C, h, w], the finished run's.
            settings: the picture's.

        Raises:
            BackendError: the engine fails, or the model overflows.
        """
        table = second_table(settings, self._noise_schedule)
        if table is None or settings.hires is None or self._passes.is_last(settings, latents):
            return None
        prompts = self._plan(settings, settings.hires.steps, settings.steps)
        text = yield from self._models.text.encode(prompts)
        start = yield from self._passes.second(settings, table, latents)
        return _slot(settings, table, start, text)

    def finish(self, latents: Latents, settings: Settings) -> Calls[Picture]:
        """Decode the latents [C, h, w] of a picture's last run.

        Raises:
            BackendError: the engine fails, or the model overflows.
        """
        pixels = yield from self._passes.finish(settings, latents)
        return Picture(pixels, settings, self.origin)


@dataclass(frozen=True)
class _Numbers:
    """What a pipeline is told beside its bundle and its backend, by its arguments' names."""

    max_batch: int | None


@dataclass
class _Run:
    """One run of `generate`: the pictures that wait, with their tables, and those on their way."""

    waiting: deque[tuple[Settings, Table]]
    total: int
    on_step: OnStep
    previews: bool
    running: dict[Slot, Settings] = field(default_factory=dict)


def _listed(wanted: Any, kinds: tuple[type, ...], takes: str) -> list[Any]:
    """What a caller gave as several of some kinds.

    Raises:
        SettingError: something is of another type.
    """
    several = isinstance(wanted, Iterable) and not isinstance(wanted, str | bytes)
    listed = list(wanted) if several else [wanted]
    strangers = [each for each in listed if not (several and isinstance(each, kinds))]
    if strangers:
        raise SettingError(f"{takes}, not {' '.join(reprlib.repr(strangers[0]).split())}.")
    return listed


def _slot(settings: Settings, table: Table, start: Start, text: Conditioning) -> Slot:
    guidance = guidance_of(settings.cfg, settings.guidance, table)
    text = text.at(table.steps - table.steps[0])
    return Slot(table, start.latents, text, guidance, start.noise, start.known, start.mask_channels)
