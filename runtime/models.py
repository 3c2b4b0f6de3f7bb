"""The models of one bundle on one backend, each loaded when it is first needed."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property

from engines import layout
from engines.any_batch import open_to_any_batch
from engines.axes import fixed_axes
from engines.backend import Backend
from engines.bundle import Bundle
from engines.errors import InternalError
from engines.session import Session
from runtime.canvas import unet_sees_mask
from runtime.denoiser import Denoiser, check_max_batch
from runtime.side_thread import SideThread
from runtime.text import PromptEncoder
from runtime.vae_decoder import PictureDecoder
from runtime.vae_encoder import PictureEncoder


class Models:
    """What computes on a bundle's graphs; a graph is loaded once.

    One thread at a time may ask for them.

    Attributes:
        limits: the sizes that the graphs take on the backend.
        max_batch: entries of one UNet call at most.
    """

    def __init__(self, bundle: Bundle, backend: Backend, max_batch: int | None = None) -> None:
        """Prepare to load graphs; none is loaded yet.

        Args:
            bundle: the opened bundle.
            backend: what opens its graphs.
            max_batch: entries of one UNet call at most, by default as many as pay on the backend.

        Raises:
            SettingError: no picture with guidance fits into that.
        """
        self._bundle = bundle
        self._backend = backend
        self._opened = ExitStack()
        self._closed = False
        self.limits = backend.limits(bundle)
        wanted = backend.max_batch if max_batch is None else max_batch
        self.max_batch = min(wanted, self.limits.most(layout.UNET, "batch") or wanted)
        check_max_batch(self.max_batch)

    @cached_property
    def text(self) -> PromptEncoder:
        """The text encoder."""
        (dtype,) = (
            tensor.dtype
            for tensor in self._bundle.component(layout.UNET).inputs
            if tensor.name == layout.ENCODER_HIDDEN_STATES
        )
        component = layout.TEXT_ENCODER
        size = fixed_axes(component, self._bundle.component(component)).get("batch")
        most = size or self.limits.most(component, "batch")
        return PromptEncoder(self._open(component), dtype, most)

    @cached_property
    def denoiser(self) -> Denoiser:
        """The denoising loop around the UNet."""
        denoiser = Denoiser(self._open(layout.UNET), self.max_batch)
        self._opened.callback(denoiser.close)
        return denoiser

    @cached_property
    def decoder(self) -> PictureDecoder:
        """The VAE decoder."""
        spec = self._bundle.manifest.latents
        session = self._open(layout.VAE_DECODER)
        return PictureDecoder(session, spec.scaling_factor, spec.downscale)

    @cached_property
    def encoder(self) -> PictureEncoder:
        """The VAE encoder."""
        spec = self._bundle.manifest.latents
        session = self._open(layout.VAE_ENCODER)
        return PictureEncoder(session, spec.scaling_factor, spec.downscale)

    @contextmanager
    def preparing(self, height: int, width: int, tokens: int, tiling: str) -> Iterator[None]:
        """Get the UNet and the VAE decoder ready for a picture, beside what the block does.

        Engines that compile a graph for its sizes keep hardly more than one core busy with it.

        Args:
            height: of the latents.
            width: of the latents.
            tokens: of each text.
            tiling: one of `runtime.tiles.TILINGS`.

        Raises:
            BackendError: an engine fails.
        """
        preparations = (
            self.denoiser.preparation(height, width, tokens),
            self.decoder.preparation(height, width, tiling),
        )
        with ExitStack() as threads:
            for preparation in preparations:
                if preparation is not None:
                    thread = SideThread("prepare")
                    threads.callback(thread.close)
                    threads.enter_context(thread.doing(preparation))
            yield

    @property
    def sees_mask(self) -> bool:
        """Whether the UNet is one for inpainting: it takes more channels than the latents have."""
        return unet_sees_mask(self._bundle.component(layout.UNET), self._bundle.manifest.latents)

    def close(self) -> None:
        """Release every loaded graph; none is loaded any more."""
        self._closed = True
        self._opened.close()

    def _open(self, component: str) -> Session:
        if self._closed:
            raise InternalError("the pipeline is closed: open another one")
        session = self._opened.enter_context(self._backend.open_session(self._bundle, component))
        most = self.limits.most(component, "batch")
        return open_to_any_batch(session, component, self._bundle.component(component), most)
