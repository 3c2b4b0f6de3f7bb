"""A sampler's run as a table.

Every sampler here is linear in its state, the model's prediction and the noise, so a run is a
list of rows, one per call of the model. A row says which timestep and which multiple of x the
model sees, and with which coefficients (x, history, prediction, noise) make the next
(x, history). One function applies any row of any table.

Samplers write their formulas on the basis vectors that `basis` gives: what they compute is the
row of coefficients itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from runtime.arrays import Float32Array, Float64Array

Vector = Float64Array
"""A linear form: coefficients over x, h1..hK, the prediction, the noise."""


@dataclass(frozen=True)
class Row:
    """One call of the model, and what becomes of the state.

    Attributes:
        timestep: what the model is told.
        input_scale: what multiplies x before the model sees it.
        state: the next x and history, one linear form each.
        step: the index of the step that the row belongs to.
        start: the factors of a known clean latent and of noise that make x here.
        draws_noise: whether the row draws from the stream of noise.
    """

    timestep: float
    input_scale: float
    state: Sequence[Vector]
    step: int
    start: tuple[float, float]
    draws_noise: bool = False


@dataclass(frozen=True)
class Table:
    """The rows of one run of a sampler that keeps K entries of history beside the latents x.

    The prediction is the model's epsilon after guidance. The history is zero before the first
    row; what it was then never reaches x.

    Attributes:
        sampler: the sampler's name in the catalogue.
        schedule: the name of its schedule.
        timesteps: [rows], what the model is told.
        input_scale: [rows], what multiplies x before the model sees it.
        coefficients: [rows, 1 + K, 3 + K]; the state after a call, over the columns x, h1..hK,
            prediction, noise.
        steps: [rows], the index of the step that a row belongs to; samplers that call the model
            twice a step have two rows of one index.
        start: [rows, 2]; a known clean latent stands at a row as
            `start[row, 0] * latent + start[row, 1] * noise`; at the first row before
            `first_noise` is added.
        draws_noise: [rows], whether the row draws from the stream of noise.
        initial_noise_scale: what multiplies the noise that a picture from nothing starts from.
        first_noise: what multiplies the noise that is drawn and added to x before the first
            row, whatever the run starts from; None draws none. Only churn needs it.
    """

    sampler: str
    schedule: str
    timesteps: Float64Array
    input_scale: Float64Array
    coefficients: Float64Array
    steps: NDArray[np.int64]
    start: Float64Array
    draws_noise: NDArray[np.bool_]
    initial_noise_scale: float
    first_noise: float | None = None

    @property
    def rows(self) -> int:
        """Calls of the model."""
        return len(self.timesteps)

    @property
    def entries(self) -> int:
        """Entries of the state, 1 + K: x and the history."""
        return int(self.coefficients.shape[1])

    @cached_property
    def float32_coefficients(self) -> Float32Array:
        """The coefficients in the precision in which they are applied."""
        return self.coefficients.astype(np.float32)


def basis(history: int) -> tuple[Vector, ...]:
    """The linear forms x, h1..hK, prediction and noise themselves, for K = `history`."""
    return tuple(np.eye(history + 3))


def table_from_rows(
    sampler: str,
    schedule: str,
    rows: Sequence[Row],
    initial_noise_scale: float,
    first_noise: float | None = None,
) -> Table:
    """Stack rows to a table.

    Args:
        sampler: its name in the catalogue.
        schedule: the name of its schedule.
        rows: in the order of the calls, at least one.
        initial_noise_scale: of the table.
        first_noise: of the table.
    """
    return Table(
        sampler=sampler,
        schedule=schedule,
        timesteps=np.array([row.timestep for row in rows], np.float64),
        input_scale=np.array([row.input_scale for row in rows], np.float64),
        coefficients=np.array([row.state for row in rows], np.float64),
        steps=np.array([row.step for row in rows], np.int64),
        start=np.array([row.start for row in rows], np.float64),
        draws_noise=np.array([row.draws_noise for row in rows], np.bool_),
        initial_noise_scale=initial_noise_scale,
        first_noise=first_noise,
    )


BLOCK = 4096
"""Values that one product takes: few enough for the cache, and for BLAS to start no threads.

Its threads would compete with the model's; where all cores are busy they wait for milliseconds.
"""


def scratch_for(table: Table) -> Float32Array:
    """What `advance` needs beside the terms, for any number of rows: [1 + K, BLOCK]."""
    return np.empty((table.entries, BLOCK), np.float32)


def advance(table: Table, row: int, terms: Float32Array, scratch: Float32Array) -> None:
    """Apply one row in float32, in place and without allocating.

    Args:
        table: the sampler's table.
        row: which row of it.
        terms: [3 + K, values], C-contiguous: the state's 1 + K entries, the prediction, the
            noise, all finite; the state is overwritten with the next one.
        scratch: from `scratch_for`, overwritten.
    """
    coefficients = table.float32_coefficients[row]
    for begin in range(0, terms.shape[1], BLOCK):
        block = terms[:, begin : begin + BLOCK]
        out = scratch[:, : block.shape[1]]
        np.matmul(coefficients, block, out=out)
        block[: table.entries] = out
