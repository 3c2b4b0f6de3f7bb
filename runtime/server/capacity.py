"""How many pictures are worth denoising at once: measured on the machine, with its engines."""

import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from engines import layout
from engines.errors import OutOfMemoryError, SettingError
from runtime.calls import complete
from runtime.init_settings import InitSettings
from runtime.pipeline import Pipeline
from runtime.request import Request, Settings
from runtime.slot import Slot
from runtime.source_picture import SourcePicture

log = logging.getLogger(__name__)

SIZES = (1, 2, 4, 8)
"""Pictures in one call that are tried."""

LEAST_GAIN = 1.1
"""By how much more pictures in one call have to raise the rate to be worth their latency."""

ENTRIES = 2
"""Entries of the UNet's batch that a picture with guidance takes."""

_TIMED_ROWS = 2


@dataclass(frozen=True)
class Capacity:
    """What one machine does with one bundle.

    Attributes:
        slots: pictures that are worth denoising at once.
        seconds_per_row: how long a call took, by its pictures, at the bundle's default size.
    """

    slots: int
    seconds_per_row: dict[int, float]


def choose_slots(seconds_per_row: Mapping[int, float]) -> int:
    """The fewest pictures a call that no larger call beats by `LEAST_GAIN` in pictures a second.

    Args:
        seconds_per_row: how long a call takes, by its pictures; not empty.
    """
    best, best_rate = 0, 0.0
    for pictures, seconds in sorted(seconds_per_row.items()):
        rate = pictures / seconds
        if not best or rate >= LEAST_GAIN * best_rate:
            best, best_rate = pictures, rate
    return best


def measure_capacity(pipeline: Pipeline, slots: int) -> Capacity:
    """Warm every engine up, and time rows of more and more pictures until that brings nothing.

    Args:
        pipeline: nobody else uses it meanwhile; its denoiser is left for the slots chosen.
        slots: how many pictures at once, or 0 to measure it.

    Raises:
        SettingError: the backend does not take that many at once.
        BackendError: an engine fails.
    """
    most = _most_slots(pipeline)
    if slots > most:
        raise SettingError(
            f"--slots {slots} is not possible: this bundle takes {most} pictures in one call here."
        )
    sizes = (slots,) if slots else tuple(size for size in SIZES if size <= most)
    settings = pipeline.settle([Request("", seed=0, count=max(sizes))])
    seconds: dict[int, float] = {}
    for size in sizes:
        try:
            seconds[size] = _time_rows(pipeline, settings[:size])
        except OutOfMemoryError as error:
            if not seconds:
                raise
            log.warning("%d pictures at once are too many for the memory: %s", size, error)
            break
        log.info("a row of %d pictures takes %.3f s", size, seconds[size])
        if choose_slots(seconds) != size:
            break
    chosen = choose_slots(seconds)
    pipeline.denoiser.resize(ENTRIES * chosen, default_area(pipeline))
    return Capacity(chosen, seconds)


def warm_up(pipeline: Pipeline) -> None:
    """Call every engine once on a picture of the bundle's default size.

    Its prompt is a new one each time: for one that is known the text encoder would not be called.

    Raises:
        BackendError: an engine fails.
    """
    defaults = pipeline.bundle.manifest.defaults
    blank = SourcePicture.of(np.zeros((defaults.height, defaults.width, 3), np.uint8))
    request = Request(secrets.token_hex(8), seed=0, init=InitSettings(blank))
    (settings,) = pipeline.settle([request])
    slot = _start(pipeline, settings)
    _advance(pipeline, [slot], 1)
    complete(pipeline.finish(np.zeros_like(slot.latents), settings))


def default_area(pipeline: Pipeline) -> int:
    """Height times width of the latents of a picture of the bundle's default size."""
    manifest = pipeline.bundle.manifest
    downscale = manifest.latents.downscale
    return (manifest.defaults.height // downscale) * (manifest.defaults.width // downscale)


def _most_slots(pipeline: Pipeline) -> float:
    """How many pictures with guidance one call takes: plans have a largest batch."""
    entries = pipeline.choice.backend.limits(pipeline.bundle).most(layout.UNET, "batch")
    return math.inf if entries is None else max(1, entries // ENTRIES)


def _time_rows(pipeline: Pipeline, settings: list[Settings]) -> float:
    pipeline.denoiser.resize(ENTRIES * len(settings))
    warm_up(pipeline)
    slots = [_start(pipeline, each) for each in settings]
    return _advance(pipeline, slots, _TIMED_ROWS)


def _start(pipeline: Pipeline, settings: Settings) -> Slot:
    return complete(pipeline.start(settings, pipeline.table(settings)))


def _advance(
    pipeline: Pipeline, slots: list[Slot], rows: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """The seconds of the fastest of the next rows; the first, which may compile, is not timed."""
    denoiser = pipeline.denoiser
    for slot in slots:
        denoiser.add(slot)
    fastest = math.inf
    try:
        for row in range(1 + rows):
            began = clock()
            finished = denoiser.advance()
            if row:
                fastest = min(fastest, clock() - began)
            if finished:
                break
    finally:
        for slot in denoiser.slots:
            denoiser.remove(slot)
    return fastest
