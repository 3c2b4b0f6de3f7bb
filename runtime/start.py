"""Where runs start: from noise alone, from a picture, or from a part of one."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engines.manifest import Latents as LatentsSpec
from runtime.arrays import Float32Array, Latents
from runtime.calls import Calls
from runtime.canvas import Canvas, mask_of_latents
from runtime.init_settings import CONTENT_NOISE, CONTENT_NOTHING, CONTENT_ORIGINAL, InitSettings
from runtime.known import KnownLatents
from runtime.masks import HALF
from runtime.samplers.table import Table
from runtime.seeds import SeedNoise
from runtime.vae_encoder import PictureEncoder, to_sample


@dataclass(frozen=True)
class Start:
    """Where a run starts: x [C, h, w] at its table's first row, and what belongs to it.

    Attributes:
        latents: x.
        noise: the stream, for the noise on the way.
        known: what the run keeps.
        mask_channels: what an inpainting UNet sees beside the latents.
    """

    latents: Latents
    noise: SeedNoise
    known: KnownLatents | None = None
    mask_channels: Latents | None = None


class Starter:
    """Makes starts, asking for noise in the order in which diffusers' pipelines draw it.

    Source: StableDiffusionPipeline, StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline.
    """

    def __init__(
        self, encoder: Callable[[], PictureEncoder], spec: LatentsSpec, *, sees_mask: bool
    ) -> None:
        """Make starts for one UNet.

        Args:
            encoder: gives the VAE encoder, which not every start needs.
            spec: the latents' channels and scale.
            sees_mask: whether the UNet sees the mask and the masked picture (nine channels).
        """
        self._encoder = encoder
        self._spec = spec
        self._sees_mask = sees_mask

    def from_noise(
        self, table: Table, noise: SeedNoise, width: int, height: int, tiling: str
    ) -> Calls[Start]:
        """Start a picture of a size in pixels from nothing."""
        downscale = self._spec.downscale
        shape = (self._spec.channels, height // downscale, width // downscale)
        latents = noise.start(shape) * np.float32(table.initial_noise_scale)
        nothing = yield from self._see_nothing(shape, noise, tiling)
        return Start(latents, noise, mask_channels=nothing)

    def from_latents(
        self, table: Table, noise: SeedNoise, latents: Latents, tiling: str
    ) -> Calls[Start]:
        """Start from a whole picture's latents [C, h, w]."""
        x = _with_noise(table, latents, noise.start(_shape(latents)))
        nothing = yield from self._see_nothing(_shape(latents), noise, tiling)
        return Start(x, noise, mask_channels=nothing)

    def from_canvas(
        self, table: Table, noise: SeedNoise, canvas: Canvas, init: InitSettings, tiling: str
    ) -> Calls[Start]:
        """Start from a picture, or from a part of one where there is a mask."""
        sample = to_sample(canvas.pixels)
        if canvas.mask is None or init.mask is None:
            latents = yield from self.encode(sample, noise, tiling)
            return (yield from self.from_latents(table, noise, latents, tiling))
        content, downscale = init.mask.content, self._spec.downscale
        mask = mask_of_latents(canvas.mask, init.mask, downscale, sees_mask=self._sees_mask)
        shape = (self._spec.channels, *mask.shape)
        afresh = init.strength == 1 and content == CONTENT_ORIGINAL
        if afresh and self._sees_mask:
            known = np.zeros(shape, np.float32)
        else:
            known = yield from self.encode(sample, noise, tiling)
            known = _with_content(known, mask, content, noise)
        start = noise.start(shape)
        x = start * np.float32(table.initial_noise_scale)
        if not afresh:
            x = _with_noise(table, known, start)
        if self._sees_mask:
            masked = sample * (canvas.mask < HALF)
            seen = yield from self._see(mask, masked, noise, tiling)
            return Start(x, noise, mask_channels=seen)
        noise.posterior(shape)  # of the masked picture, which only a UNet that sees the mask needs
        return Start(x, noise, KnownLatents(known, start, mask))

    def encode(self, sample: Float32Array, noise: SeedNoise, tiling: str) -> Calls[Latents]:
        """Sample the latents [C, h, w] of a picture [3, H, W] in -1..1."""
        return (yield from self._encoder().encode(sample, noise.posterior, tiling))

    def _see(
        self, mask: Float32Array, masked: Float32Array, noise: SeedNoise, tiling: str
    ) -> Calls[Latents]:
        """The mask and the latents of the masked picture, [1 + C, h, w]."""
        latents = yield from self.encode(masked, noise, tiling)
        return np.concatenate([mask[None], latents])

    def _see_nothing(
        self, shape: tuple[int, int, int], noise: SeedNoise, tiling: str
    ) -> Calls[Latents | None]:
        """The same where all is masked; None for a UNet that sees no mask."""
        if not self._sees_mask:
            return None
        _, height, width = shape
        downscale = self._spec.downscale
        masked = np.zeros((3, height * downscale, width * downscale), np.float32)
        return (yield from self._see(np.ones((height, width), np.float32), masked, noise, tiling))


def _with_noise(table: Table, latents: Latents, noise: Latents) -> Latents:
    """Latents as they stand at a table's first row."""
    signal, sigma = table.start[0].astype(np.float32)
    x: Latents = signal * latents + sigma * noise
    return x


def _with_content(latents: Latents, mask: Float32Array, content: str, noise: SeedNoise) -> Latents:
    """Put noise or nothing into the masked part, where that is what it starts from."""
    if content == CONTENT_NOISE:
        return (1 - mask) * latents + mask * noise.fill(latents.shape)
    return (1 - mask) * latents if content == CONTENT_NOTHING else latents


def _shape(latents: Latents) -> tuple[int, int, int]:
    channels, height, width = latents.shape
    return channels, height, width
