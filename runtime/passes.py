"""The passes of a picture through the denoiser: how each begins, and how the last one ends."""

from engines.errors import InternalError
from engines.manifest import Latents as LatentsSpec
from runtime.arrays import Latents, Pixels
from runtime.calls import Calls
from runtime.canvas import prepare_canvas
from runtime.hires import upscale
from runtime.models import Models
from runtime.request import Settings
from runtime.samplers.table import Table
from runtime.seeds import SeedNoise
from runtime.start import Start, Starter
from runtime.vae_encoder import to_sample


class Passes:
    """One pass for a picture, or two with hires fix."""

    def __init__(self, models: Models, spec: LatentsSpec) -> None:
        """Make passes with a bundle's VAE, whose graphs are loaded when they are needed.

        Args:
            models: the bundle's.
            spec: the latents' channels and scale.
        """
        self._models = models
        self._spec = spec
        self._starter = Starter(lambda: models.encoder, spec, sees_mask=models.sees_mask)

    def first(self, settings: Settings, table: Table) -> Calls[Start]:
        """Where the first pass starts.

        Raises:
            SettingError: pixels that the settings name are not there.
            BackendError: the VAE encoder fails or overflows.
        """
        noise, tiling = self._noise(settings), settings.vae_tiling
        width, height = settings.width, settings.height
        if settings.init is None:
            return (yield from self._starter.from_noise(table, noise, width, height, tiling))
        canvas = prepare_canvas(settings.init, width, height)
        return (yield from self._starter.from_canvas(table, noise, canvas, settings.init, tiling))

    def second(self, settings: Settings, table: Table, latents: Latents) -> Calls[Start]:
        """Where the second pass starts, from the latents [C, h, w] of the first.

        Raises:
            BackendError: the VAE fails or overflows.
        """
        if settings.hires is None:
            raise InternalError("a picture without hires fix has no second pass")
        noise, tiling = self._noise(settings), settings.vae_tiling
        enlarged = yield from upscale(
            latents,
            settings.hires,
            self._spec.downscale,
            decode=lambda made: self._models.decoder.decode(made, tiling),
            encode=lambda pixels: self._starter.encode(to_sample(pixels), noise, tiling),
        )
        return (yield from self._starter.from_latents(table, noise, enlarged, tiling))

    def finish(self, settings: Settings, latents: Latents) -> Calls[Pixels]:
        """The picture of the last pass's latents [C, h, w].

        Raises:
            BackendError: the VAE decoder fails or overflows.
        """
        if not self.is_last(settings, latents):
            raise InternalError("a picture has another pass, whose latents are asked for")
        pixels = yield from self._models.decoder.decode(latents, settings.vae_tiling)
        if settings.init is None:
            return pixels
        return prepare_canvas(settings.init, settings.width, settings.height).finish(pixels)

    def is_last(self, settings: Settings, latents: Latents) -> bool:
        """Whether latents [C, h, w] are of the last pass, by their size."""
        hires, downscale = settings.hires, self._spec.downscale
        if hires is None:
            return True
        return latents.shape[1:] == (hires.height // downscale, hires.width // downscale)

    def _noise(self, settings: Settings) -> SeedNoise:
        return SeedNoise(settings.seed, settings.noise, self._spec.downscale)
