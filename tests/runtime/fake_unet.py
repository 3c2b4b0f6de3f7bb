"""A UNet without a model, and runs for it; what `stand_ins` has for whole bundles."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from engines.manifest import ComponentSpec, TensorSpec
from engines.session import Array, Session
from runtime.conditioning import Conditioning, Embeddings
from runtime.denoiser import Denoiser
from runtime.guidance import Guidance
from runtime.noise import TorchCpuNoise
from runtime.noise_schedule import NoiseSchedule
from runtime.samplers.lookup import make_table
from runtime.samplers.table import Table
from runtime.slot import Slot
from tests.runtime.samplers.reference import SD15

NOISE_SCHEDULE = NoiseSchedule.from_config(SD15)
WIDTH = 8


class FakeUnet(Session):
    """A curved function of each batch entry alone; keeps the feeds of every call."""

    def __init__(self, dtype: str = "float32") -> None:
        super().__init__(
            ComponentSpec(
                "unet/model.onnx",
                dtype,
                (
                    TensorSpec("sample", dtype, ("batch", 4, "height", "width")),
                    TensorSpec("timestep", "float32", ("batch",)),
                    TensorSpec("encoder_hidden_states", dtype, ("batch", "tokens", WIDTH)),
                ),
                (TensorSpec("out_sample", dtype, ("batch", 4, "height", "width")),),
            )
        )
        self.calls: list[dict[str, Array]] = []
        self.poisoned: float | None = None
        self._embeddings: Array = np.empty(0)

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        self.calls.append({name: array.copy() for name, array in feeds.items()})
        self._embeddings = feeds.get("encoder_hidden_states", self._embeddings)
        pairs = zip(feeds["sample"], feeds["timestep"], self._embeddings, strict=True)
        out = np.stack([predict(*pair) for pair in pairs]).astype(self.outputs[0].dtype)
        if self.poisoned is not None:
            out[feeds["timestep"] == self.poisoned, 0, 0, 0] = np.nan
        return {"out_sample": out}

    def close(self) -> None:
        pass


def predict(sample: Array, timestep: float, embeddings: Array) -> Array:
    mean = embeddings.astype(np.float32).mean()
    result: Array = np.sin(1.7 * sample + np.float32(timestep / 300)) + mean
    return result


def embeddings(seed: int, tokens: int = 77) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(tokens, WIDTH)).astype(np.float32) + seed / 9


def slot(
    seed: int = 0,
    sampler: str = "DPM++ 2M",
    steps: int = 6,
    guidance: float | Guidance = 7.0,
    size: tuple[int, int] = (8, 8),
    tokens: int = 77,
    table: Table | None = None,
) -> Slot:
    noise = TorchCpuNoise(seed)
    table = table or make_table(sampler, "automatic", steps, NOISE_SCHEDULE)
    negative = None if guidance == 1 else embeddings(seed + 100, tokens)
    text = constant(table, [embeddings(seed, tokens)], negative)
    return Slot(table, noise.draw((4, *size)), text, guidance, noise)


def constant(
    table: Table, prompts: Sequence[Embeddings], negative: Embeddings | None, *weights: float
) -> Conditioning:
    """The same prompts at every row."""
    return Conditioning(
        weights or (1.0,) * len(prompts),
        [tuple(prompts)] * table.rows,
        None if negative is None else [negative] * table.rows,
    )


def finish(denoiser: Denoiser) -> list[Slot]:
    finished = []
    while denoiser.slots:
        finished += denoiser.advance()
    return finished


def run_alone(**options: object) -> NDArray[np.float32]:
    denoiser = Denoiser(FakeUnet(), max_batch=2)
    denoiser.add(slot(**options))  # type: ignore[arg-type]
    (finished,) = finish(denoiser)
    return finished.latents
