"""diffusers' pipeline around a model: on its own networks in float32, or on a bundle's graphs."""

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch

from convert.model import TEXT_ENCODER, UNET, VAE, BaseModel
from convert.networks import build_network
from convert.weights import load_network
from engines import layout
from engines.any_batch import open_to_any_batch
from engines.backend import choose_backend
from engines.bundle import Bundle
from engines.session import Array, Session

_BACKEND: Final = "cpu"
_INPAINTING_CHANNELS: Final = 9


def open_torch_pipeline(bundle: Bundle, model: BaseModel) -> Any:
    """The pipeline on the model's own networks, with the bundle's tokenizer and scheduler."""
    networks = {name: load_network(part) for name, part in model.components.items()}
    return _assemble(bundle, model, networks)


@contextlib.contextmanager
def open_graph_pipeline(bundle: Bundle, model: BaseModel) -> Iterator[Any]:
    """The same pipeline with every network replaced by the bundle's graph in ONNX Runtime.

    Raises:
        BackendError: a graph cannot be loaded.
    """
    with contextlib.ExitStack() as sessions:

        def graph(name: str) -> _Graph:
            backend = choose_backend(_BACKEND, bundle).backend
            session = sessions.enter_context(backend.open_session(bundle, name))
            return _Graph(open_to_any_batch(session, name, bundle.component(name)))

        configs = {name: build_network(part).config for name, part in model.components.items()}
        networks = {
            TEXT_ENCODER: _TextEncoder(configs[TEXT_ENCODER], graph(layout.TEXT_ENCODER)),
            UNET: _UNet(configs[UNET], graph(layout.UNET)),
            VAE: _Vae(configs[VAE], graph(layout.VAE_ENCODER), graph(layout.VAE_DECODER)),
        }
        yield _assemble(bundle, model, networks)


def is_inpainting(model: BaseModel) -> bool:
    """Whether the UNet takes a mask and a masked picture beside the latents."""
    return bool(model.components[UNET].config["in_channels"] == _INPAINTING_CHANNELS)


def _assemble(bundle: Bundle, model: BaseModel, networks: dict[str, Any]) -> Any:
    schedule = json.loads((bundle.path / layout.SCHEDULER_FILE).read_bytes())
    with _advice_kept_back():
        from diffusers import (
            DPMSolverMultistepScheduler,
            StableDiffusionInpaintPipeline,
            StableDiffusionPipeline,
        )
        from transformers import CLIPTokenizerFast

        plain: Any = StableDiffusionPipeline
        kind = StableDiffusionInpaintPipeline if is_inpainting(model) else plain
        pipeline = kind(
            **networks,
            tokenizer=CLIPTokenizerFast.from_pretrained(
                bundle.path / layout.TOKENIZER_DIRECTORY, local_files_only=True
            ),
            scheduler=DPMSolverMultistepScheduler.from_config(schedule, use_karras_sigmas=True),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@contextlib.contextmanager
def _advice_kept_back() -> Iterator[None]:
    """Keep back what is said of old configurations, and of packages that only other uses need."""
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class _Graph:
    """A session that takes and gives tensors in float32."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._dtypes = {tensor.name: tensor.dtype for tensor in session.inputs}

    def __call__(self, output: str, **feeds: torch.Tensor) -> torch.Tensor:
        arrays: dict[str, Array] = {
            name: np.ascontiguousarray(tensor.numpy().astype(self._dtypes[name], copy=False))
            for name, tensor in feeds.items()
        }
        return torch.from_numpy(self._session.run(arrays)[output].astype(np.float32))


class _TextEncoder:
    """What the pipeline calls of transformers' CLIPTextModel."""

    dtype = torch.float32

    def __init__(self, config: Any, graph: _Graph) -> None:
        self.config = config
        self._graph = graph

    def __call__(self, input_ids: torch.Tensor, attention_mask: None) -> tuple[torch.Tensor]:
        return (self._graph(layout.LAST_HIDDEN_STATE, input_ids=input_ids),)


class _UNet:
    """What the pipeline calls of diffusers' UNet2DConditionModel."""

    dtype = torch.float32

    def __init__(self, config: Any, graph: _Graph) -> None:
        self.config = config
        self._graph = graph

    def __call__(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        **_: object,
    ) -> tuple[torch.Tensor]:
        prediction = self._graph(
            layout.OUT_SAMPLE,
            sample=sample,
            timestep=timestep.expand(len(sample)),
            encoder_hidden_states=encoder_hidden_states,
        )
        return (prediction,)


class _Vae:
    """What the pipelines call of diffusers' AutoencoderKL."""

    dtype = torch.float32

    def __init__(self, config: Any, encoder: _Graph, decoder: _Graph) -> None:
        self.config = config
        self._encoder = encoder
        self._decoder = decoder

    def encode(self, picture: torch.Tensor) -> Any:
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
        from diffusers.models.modeling_outputs import AutoencoderKLOutput

        moments = self._encoder(layout.LATENT_PARAMETERS, sample=picture)
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(moments))

    def decode(self, latents: torch.Tensor, **_: object) -> tuple[torch.Tensor]:
        return (self._decoder(layout.SAMPLE, latent_sample=latents),)
