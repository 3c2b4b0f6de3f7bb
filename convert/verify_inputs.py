"""What a bundle is verified on: seeded inputs of several sizes, batches and timesteps."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import torch

from convert.export_plan import latent_downscale, scaling_factor
from convert.model import TEXT_ENCODER, UNET, VAE, BaseModel
from engines import layout

Inputs = dict[str, torch.Tensor]
_Sizes = Mapping[str, int]

_SEED: Final = 20
_LATENTS: Final = ((1, 8, 8), (2, 9, 13), (3, 16, 12))
"""Batch, height and width; the second is no multiple of 8: there the UNet upsamples unevenly."""
_TIMESTEPS: Final = (1.0, 500.0, 999.0)
_CHUNKS: Final = (1, 2, 3)
_BATCHES: Final = (1, 3)


def verification_inputs(component: str, model: BaseModel, fixed: Mapping[str, int]) -> list[Inputs]:
    """Inputs of one component by name, the same in every run; floats are float32.

    They have the spread that they have in use: latents are normal before the VAE's scaling, and
    pictures lie in -1..1.

    Args:
        component: one of the layout's.
        model: what it was exported from.
        fixed: the sizes of the axes that are not dynamic in its graph.
    """
    generator = torch.Generator().manual_seed(_SEED)
    return list(_MAKERS[component](model, generator, fixed))


def _shapes(fixed: _Sizes) -> Iterator[tuple[int, int, int]]:
    for batch, height, width in _LATENTS:
        yield fixed.get("batch", batch), fixed.get("height", height), fixed.get("width", width)


def _tokens(model: BaseModel, generator: torch.Generator, fixed: _Sizes) -> Iterator[Inputs]:
    """Ids of chance, and among them in the first call the last ones, which may be embeddings."""
    vocabulary = model.components[TEXT_ENCODER].config["vocab_size"]
    for batch in _BATCHES:
        size = fixed.get("batch", batch)
        ids = torch.randint(vocabulary, (size, layout.CHUNK_TOKENS), generator=generator)
        ids[0, : layout.CHUNK_TOKENS // 2] = vocabulary - 1 - torch.arange(layout.CHUNK_TOKENS // 2)
        yield {layout.INPUT_IDS: ids}


def _unet(model: BaseModel, generator: torch.Generator, fixed: _Sizes) -> Iterator[Inputs]:
    config = model.components[UNET].config
    channels, width = config["in_channels"], config["cross_attention_dim"]
    for (batch, h, w), timestep, chunks in zip(_shapes(fixed), _TIMESTEPS, _CHUNKS, strict=True):
        tokens = fixed.get("tokens", chunks * layout.CHUNK_TOKENS)
        yield {
            layout.SAMPLE: torch.randn(batch, channels, h, w, generator=generator),
            layout.TIMESTEP: torch.full((batch,), timestep),
            layout.ENCODER_HIDDEN_STATES: torch.randn(batch, tokens, width, generator=generator),
        }


def _pictures(model: BaseModel, generator: torch.Generator, fixed: _Sizes) -> Iterator[Inputs]:
    scale = latent_downscale(model.components[VAE].config)
    for batch, h, w in _shapes(fixed):
        picture = torch.rand(batch, 3, h * scale, w * scale, generator=generator)
        yield {layout.SAMPLE: picture * 2 - 1}


def _latents(model: BaseModel, generator: torch.Generator, fixed: _Sizes) -> Iterator[Inputs]:
    config = model.components[VAE].config
    for batch, h, w in _shapes(fixed):
        latents = torch.randn(batch, config["latent_channels"], h, w, generator=generator)
        yield {layout.LATENT_SAMPLE: latents / scaling_factor(config)}


_MAKERS: Final[dict[str, Callable[[BaseModel, torch.Generator, _Sizes], Iterator[Inputs]]]] = {
    layout.TEXT_ENCODER: _tokens,
    layout.UNET: _unet,
    layout.VAE_ENCODER: _pictures,
    layout.VAE_DECODER: _latents,
}
