"""What a row costs outside the engine, for each sampler: microseconds per slot at 64x64 latents.

    python -m benchmarks.row_overhead

The UNet is a session that answers at once, so what is left is the denoiser: writing inputs,
guidance, the table's row, the sampler's noise. Guidance on, one to four slots in a call. The fp16
columns convert to and from the dtype of a GPU's graphs.
"""

import argparse
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.measure import save
from engines import layout
from engines.identity import Json
from engines.manifest import ComponentSpec, TensorSpec
from engines.session import Array, Session
from runtime.conditioning import Conditioning
from runtime.denoiser import Denoiser
from runtime.noise import TorchCpuNoise
from runtime.noise_schedule import NoiseSchedule, read_noise_schedule
from runtime.samplers.catalogue import AUTOMATIC, SAMPLERS
from runtime.samplers.lookup import make_table
from runtime.samplers.table import Table
from runtime.slot import Slot

MODEL = Path(__file__).parent.parent / "demo" / "base"
SHAPE = (4, 64, 64)
TOKENS, WIDTH = 77, 768
STEPS = 30


class InstantSession(Session):
    """Predicts the same noise whatever it is fed."""

    def __init__(self, dtype: str, entries: int) -> None:
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

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        return self._outputs

    def close(self) -> None:
        """Nothing to release."""


def main() -> None:
    """Measure every sampler, print a table and save the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    schedule = read_noise_schedule(MODEL / layout.SCHEDULER_FILE)
    figures: dict[str, Json] = {}
    for sampler in SAMPLERS:
        figures[sampler.name] = {
            f"{dtype}, {slots} slots": _microseconds(
                sampler.name, schedule, dtype, slots, options.runs
            )
            for dtype in ("float32", "float16")
            for slots in (1, 4)
        }
        print(f"{sampler.name:18}", figures[sampler.name])
    command = "python -m benchmarks.row_overhead"
    print(save("row_overhead", command, {"microseconds_per_slot": figures}, {}))


def _microseconds(
    sampler: str, schedule: NoiseSchedule, dtype: str, slots: int, runs: int
) -> float:
    """The median over runs of the mean row, per slot."""
    table = make_table(sampler, AUTOMATIC, STEPS, schedule)
    means = []
    for _ in range(runs):
        denoiser = Denoiser(InstantSession(dtype, 2 * slots), 2 * slots)
        for number in range(slots):
            denoiser.add(_slot(table, number))
        denoiser.advance()
        started = time.perf_counter()
        while denoiser.slots:
            denoiser.advance()
        means.append((time.perf_counter() - started) / (table.rows - 1) / slots)
    return round(1e6 * statistics.median(means), 1)


def _slot(table: Table, seed: int) -> Slot:
    noise = TorchCpuNoise(seed)
    texts = np.random.default_rng(seed).standard_normal((2, TOKENS, WIDTH)).astype(np.float32)
    text = Conditioning(
        prompts=((texts[0],),) * table.rows, negative=(texts[1],) * table.rows, weights=(1.0,)
    )
    return Slot(table, noise.draw(SHAPE), text, 7.0, noise)


if __name__ == "__main__":
    main()
