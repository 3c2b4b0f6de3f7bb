"""What a seed means: the source of noise, variations of a seed, and seeds of other sizes.

The names and the arithmetic are those of AUTOMATIC1111's webui (subseed or "variation seed",
"resize seed from", "eta noise seed delta").
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from runtime.arrays import Float32Array, Float64Array
from runtime.noise import TorchCpuNoise
from runtime.philox import PhiloxNoise

CPU = "cpu"
NV = "nv"
SOURCES: dict[str, Callable[[int], TorchCpuNoise | PhiloxNoise]] = {
    CPU: TorchCpuNoise,
    NV: PhiloxNoise,
}
"""By name: torch's CPU generator, diffusers' usual, and its CUDA generator, the webui's default."""

MAX_SEED = 2**64 - 1

_ENCODER_OFFSET = 2**63
"""From a seed to that of a stream beside it: the webui's encoder draws what no seed decides."""

MAX_SIDE = 2048
"""Of a picture, in pixels."""

_PARALLEL = 0.9995
"""A mean cosine above which the way between two noises has no direction to turn in."""

_FLAT = 1e-9
"""The sine of an angle between columns at which there is no direction either."""


@dataclass(frozen=True)
class NoiseSettings:
    """How a seed becomes noise.

    Attributes:
        source: one of `SOURCES`.
        subseed: the seed that the noise turns to; None where it does not.
        subseed_strength: how far it turns, from 0, the seed's own noise, to 1, the subseed's.
        from_width: in pixels; the noise is laid out as in a picture of this size, with the middle
            in common, and new noise around where the picture is larger. 0 is the picture's own.
        from_height: likewise.
        eta_seed_delta: what is added to the seed for the noise that samplers draw on the way.
    """

    source: str = CPU
    subseed: int | None = None
    subseed_strength: float = 0.0
    from_width: int = 0
    from_height: int = 0
    eta_seed_delta: int = 0


class SeedNoise:
    """All the noise of one picture, in the order in which it is drawn.

    The order is that of those who usually draw from the source: diffusers' for `cpu`, where the VAE
    encoder's noise is part of the stream, and the webui's for `nv`, where it is not.
    """

    def __init__(self, seed: int, settings: NoiseSettings, downscale: int) -> None:
        """Start the stream of `seed`.

        Args:
            seed: 0 to `MAX_SEED`.
            settings: as checked by `noise_faults`.
            downscale: pixels per latent along one side.
        """
        self._seed = seed
        self._settings = settings
        self._downscale = downscale
        self._stream = self._fresh(seed)
        self._for_encoder = self._stream
        if settings.source == NV:
            self._for_encoder = self._fresh((seed + _ENCODER_OFFSET) % (MAX_SEED + 1))

    def draw(self, shape: tuple[int, ...]) -> Float32Array:
        """Draw standard normal float32 noise of `shape`, continuing the stream."""
        return self._stream.draw(shape)

    def draw_into(self, out: Float32Array) -> None:
        """Fill `out`, which is C-contiguous, with what `draw` gives."""
        self._stream.draw_into(out)

    def start(self, shape: tuple[int, int, int]) -> Float32Array:
        """Draw the noise that a picture starts from, [C, h, w]; what follows may be another's."""
        settings = self._settings
        own = self._stream.draw(shape)
        size = shape
        if settings.from_width and settings.from_height:
            height = settings.from_height // self._downscale
            size = (shape[0], height, settings.from_width // self._downscale)
        noise = own if size == shape else self._fresh(self._seed).draw(size)
        if settings.subseed is not None:
            other = self._fresh(settings.subseed).draw(size)
            noise = slerp(noise, other, settings.subseed_strength)
        if size != shape:
            noise = lay_over(own, noise)
        if settings.eta_seed_delta:
            self._stream = self._fresh(self._seed + settings.eta_seed_delta)
        return noise

    def posterior(self, shape: tuple[int, ...]) -> Float32Array:
        """Draw the noise with which the VAE encoder's result is sampled."""
        return self._for_encoder.draw(shape)

    def fill(self, shape: tuple[int, ...]) -> Float32Array:
        """The stream's first noise, of `shape`, drawn beside it."""
        return self._fresh(self._seed).draw(shape)

    def _fresh(self, seed: int) -> TorchCpuNoise | PhiloxNoise:
        return SOURCES[self._settings.source](seed)


def slerp(first: Float32Array, second: Float32Array, strength: float) -> Float32Array:
    """Turn from one noise to another, by spherical interpolation (Shoemake, 1985).

    As in the webui, each column of each channel turns by itself: the angle is that between the
    two columns.

    Args:
        first: [C, h, w].
        second: likewise.
        strength: 0 for the first, 1 for the second.
    """
    a, b = first.astype(np.float64), second.astype(np.float64)
    cosine = np.sum(_normalised(a) * _normalised(b), axis=1, keepdims=True).clip(-1, 1)
    angle = np.arccos(cosine)
    sine = np.sin(angle)
    if cosine.mean() > _PARALLEL or sine.min() < _FLAT:
        mixed: Float32Array = ((1 - strength) * a + strength * b).astype(np.float32)
        return mixed
    turned: Float32Array = (
        (np.sin((1 - strength) * angle) * a + np.sin(strength * angle) * b) / sine
    ).astype(np.float32)
    return turned


def lay_over(ground: Float32Array, noise: Float32Array) -> Float32Array:
    """Put the middle of one noise over the middle of another, of another size.

    Args:
        ground: [C, h, w], which decides the size.
        noise: [C, h', w'].
    """
    laid = ground.copy()
    target, source = zip(*map(_overlap, ground.shape[1:], noise.shape[1:]), strict=True)
    laid[:, *target] = noise[:, *source]
    return laid


def noise_faults(settings: NoiseSettings, seed: int, count: int, downscale: int) -> list[str]:
    """What is wrong with the settings of several pictures.

    Args:
        settings: how their seeds become noise.
        seed: of the first one.
        count: how many there are, 1 or more; see `runtime.request.Request` for their seeds.
        downscale: pixels per latent along one side.
    """
    faults = []
    if settings.source not in SOURCES:
        faults.append(f"no noise {settings.source!r}: choose {' or '.join(SOURCES)}")
    if not 0 <= settings.subseed_strength <= 1:
        faults.append(
            f"the subseed strength {settings.subseed_strength:g} is not possible: choose 0 to 1"
        )
    last = seed if settings.subseed is not None else seed + count - 1
    if settings.subseed is not None:
        last_subseed = settings.subseed + count - 1
        if settings.subseed < 0 or last_subseed > MAX_SEED:
            choice = _choose_seed(last_subseed - settings.subseed)
            faults.append(f"the subseed {settings.subseed} is not possible: {choice}")
    if seed < 0 or last > MAX_SEED:
        choice = _choose_seed(last - seed)
        faults.append(f"the seed {seed} is not possible: {choice}, or give none for one by chance")
    elif seed + settings.eta_seed_delta < 0 or last + settings.eta_seed_delta > MAX_SEED:
        faults.append(
            f"the eta noise seed delta {settings.eta_seed_delta} leads from the seed {seed} to "
            "none that is possible"
        )
    sides = (settings.from_width, settings.from_height)
    possible = all(0 < side <= MAX_SIDE and side % downscale == 0 for side in sides)
    if any(sides) and not possible:
        faults.append(
            f"a seed cannot be resized from {sides[0]}x{sides[1]}: choose multiples of {downscale} "
            f"up to {MAX_SIDE}"
        )
    return faults


def _choose_seed(more: int) -> str:
    """What the first of some seeds can be, where so many more follow it."""
    return f"choose 0 to {MAX_SEED - more}" + (f" for {more + 1} pictures" if more else "")


def _normalised(noise: Float64Array) -> Float64Array:
    unit: Float64Array = noise / np.linalg.norm(noise, axis=1, keepdims=True)
    return unit


def _overlap(ground: int, noise: int) -> tuple[slice, slice]:
    """Where one side of the middle lies in both, with the webui's rounding of odd differences."""
    before = (ground - noise) // 2
    length = noise if before >= 0 else noise + 2 * before
    begin, skip = max(before, 0), max(-before, 0)
    return slice(begin, begin + length), slice(skip, skip + length)
