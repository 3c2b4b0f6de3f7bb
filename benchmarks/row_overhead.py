"""What a row costs outside the engine: microseconds per slot at 64x64 latents.

    python -m benchmarks.row_overhead

The UNet is a session that knows its answer and gives it after `--call` milliseconds, in which
other threads may run, as they may while a GPU computes; that time is not counted. It spins, as
CUDA by default lets a thread do that waits for a GPU; and once more asleep, after which the
processor has to wake up and finds its caches cold. What is left is the denoiser: writing inputs,
guidance, the table's row, and waiting for noise that takes longer than the call. Guidance is on,
one to four slots share a call, and fp16 is the dtype of a GPU's graphs. Every sampler has noise of
`cpu`, and of `nv` where it draws any; two have prompts of which three joined by AND all change at
every row. Beside that, what drawing noise takes by itself.
"""

import argparse
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.measure import save
from engines import layout
from engines.identity import Json
from engines.manifest import ComponentSpec, TensorSpec
from engines.session import Array, Session
from runtime.conditioning import Conditioning
from runtime.denoiser import Denoiser
from runtime.noise_schedule import NoiseSchedule, read_noise_schedule
from runtime.samplers.catalogue import AUTOMATIC, SAMPLERS
from runtime.samplers.lookup import make_table
from runtime.samplers.table import Table
from runtime.seeds import CPU, NV, SOURCES
from runtime.slot import Slot

MODEL = Path(__file__).parent.parent / "demo" / "base"
SHAPE = (4, 64, 64)
TOKENS, WIDTH = 77, 768
STEPS = 30
JOINED = 3
JOINED_WITH = (("DPM++ 2M", CPU), ("Euler a", NV))
DRAWS = 200
SPIN = 10_000
"""Numbers that a session which spins computes at a time, some microseconds."""


class PatientSession(Session):
    """Predicts the same noise whatever it is fed, `seconds` after it is asked, spinning or asleep.

    Attributes:
        spent: the seconds of all calls so far.
    """

    def __init__(self, dtype: str, entries: int, seconds: float, *, asleep: bool) -> None:
        axes: dict[str, tuple[int | str, ...]] = {
            layout.SAMPLE: ("batch", SHAPE[0], "height", "width"),
            layout.ENCODER_HIDDEN_STATES: ("batch", "tokens", WIDTH),
        }
        tensors = [TensorSpec(name, dtype, shape) for name, shape in axes.items()]
        out = TensorSpec(layout.OUT_SAMPLE, dtype, axes[layout.SAMPLE])
        timestep = TensorSpec(layout.TIMESTEP, "float32", ("batch",))
        super().__init__(ComponentSpec("", dtype, (tensors[0], timestep, tensors[1]), (out,)))
        noise = np.random.default_rng(1).standard_normal((entries, *SHAPE))
        self._outputs = {layout.OUT_SAMPLE: noise.astype(dtype)}
        self._seconds = seconds
        self._asleep = asleep
        self._spun = np.zeros(SPIN, np.float32)
        self.spent = 0.0

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        started = time.perf_counter()
        if self._asleep:
            time.sleep(self._seconds)
        while time.perf_counter() < started + self._seconds:
            np.sin(self._spun, out=self._spun)  # other threads may run meanwhile
        self.spent += time.perf_counter() - started
        return self._outputs

    def close(self) -> None:
        """Nothing to release."""


@dataclass(frozen=True)
class Case:
    """What shares a call, spinning or asleep: so many runs of a sampler, with so many prompts."""

    sampler: str
    source: str
    prompts: int
    dtype: str
    slots: int
    asleep: bool

    @property
    def name(self) -> str:
        """As the results name it."""
        joined = f", {self.prompts} prompts that change" if self.prompts > 1 else ""
        return f"{self.sampler}, {self.source}{joined}"

    @property
    def kind(self) -> str:
        """Likewise, among those of one name."""
        return f"{self.dtype}, {self.slots} slots, {'asleep' if self.asleep else 'spinning'}"


def main() -> None:
    """Measure every case in each of several rounds; save the median and the least of each.

    In rounds, so that what slows the machine for some seconds hits no case every time. On a
    machine that is shared, the least is what the code itself takes.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--call", type=float, default=5, help="milliseconds of the UNet's call")
    options = parser.parse_args()
    schedule = read_noise_schedule(MODEL / layout.SCHEDULER_FILE)
    rows: dict[Case, list[float]] = {case: [] for case in _cases(schedule)}
    for _ in tqdm(range(options.rounds), unit="round"):
        for case, measured in rows.items():
            measured.append(_measure(case, schedule, options.call / 1000))
    figures: dict[str, Json] = {}
    for name, cases in groupby(rows, key=lambda case: case.name):
        figures[name] = {
            case.kind: {
                "median": statistics.median(rows[case]),
                "least": min(rows[case]),
            }
            for case in cases
        }
        print(f"{name:36} {figures[name]}")
    draws: dict[str, Json] = {source: _draw(source) for source in SOURCES}
    print(
        save(
            "row_overhead",
            f"python -m benchmarks.row_overhead --rounds {options.rounds} --call {options.call:g}",
            {
                "milliseconds_per_call": options.call,
                "microseconds_per_slot": figures,
                "microseconds_per_draw": draws,
            },
            {},
        )
    )


def _cases(schedule: NoiseSchedule) -> list[Case]:
    runs = [
        (sampler.name, source, 1)
        for sampler in SAMPLERS
        for source in SOURCES
        if source == CPU or _table(sampler.name, schedule).draws_noise.any()
    ]
    runs += [(sampler, source, JOINED) for sampler, source in JOINED_WITH]
    return [
        Case(*run, dtype, slots, asleep)
        for run in runs
        for dtype in ("float32", "float16")
        for slots in (1, 4)
        for asleep in (False, True)
    ]


def _measure(case: Case, schedule: NoiseSchedule, seconds: float) -> float:
    """Microseconds that the mean row takes outside the session, per slot."""
    table = _table(case.sampler, schedule)
    entries = (case.prompts + 1) * case.slots
    session = PatientSession(case.dtype, entries, seconds, asleep=case.asleep)
    return _row(session, [_slot(table, case, seed) for seed in range(case.slots)])


def _row(session: PatientSession, slots: list[Slot]) -> float:
    """Microseconds that the mean row takes outside the session, per slot; not the first row."""
    denoiser = Denoiser(session, len(slots) * max(slot.most_entries for slot in slots))
    for slot in slots:
        denoiser.add(slot)
    denoiser.advance()
    session.spent = 0.0
    rows = 0
    started = time.perf_counter()
    while denoiser.slots:
        denoiser.advance()
        rows += 1
    seconds = time.perf_counter() - started - session.spent
    denoiser.close()
    return round(1e6 * seconds / rows / len(slots), 1)


def _draw(source: str) -> float:
    """Microseconds of one draw of noise, the median of many."""
    noise, out = SOURCES[source](0), np.empty(SHAPE, np.float32)
    seconds = []
    for _ in range(DRAWS):
        started = time.perf_counter()
        noise.draw_into(out)
        seconds.append(time.perf_counter() - started)
    return round(1e6 * statistics.median(seconds), 1)


def _table(sampler: str, schedule: NoiseSchedule) -> Table:
    return make_table(sampler, AUTOMATIC, STEPS, schedule)


def _slot(table: Table, case: Case, seed: int) -> Slot:
    """A run with guidance; where there are several prompts, each of them changes at every row."""
    noise = SOURCES[case.source](seed)
    random = np.random.default_rng(seed)
    shape = (1 + 2 * case.prompts, TOKENS, WIDTH)
    negative, *texts = random.standard_normal(shape).astype(case.dtype)
    first = texts[: case.prompts]
    turns = (first, texts[case.prompts :] if case.prompts > 1 else first)
    text = Conditioning(
        prompts=[tuple(turns[row % 2]) for row in range(table.rows)],
        negative=(negative,) * table.rows,
        weights=(1.0,) * case.prompts,
    )
    return Slot(table, noise.draw(SHAPE), text, 7.0, noise)


if __name__ == "__main__":
    main()
