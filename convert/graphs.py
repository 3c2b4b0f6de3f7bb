"""What is exported: four torch modules whose inputs and outputs are those of the bundle's layout.

Each holds a network of diffusers or transformers and only renames its ends, so that a parameter
keeps its name but for the prefix `network.`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch.export import Dim

from convert.export_plan import latent_downscale
from convert.model import TEXT_ENCODER, UNET, VAE
from engines import layout

PREFIX: Final = "network."

# At a size that is no multiple of 8, diffusers' UNet upsamples to the size of the skip connection,
# which is right for every size. At a multiple of 8 it takes a factor of 2, and the graph would hold
# for multiples of 8 alone. All sizes differ, so that no two axes are taken for one.
_TRACED: Final = {"batch": 2, "height": 33, "width": 49, "tokens": layout.CHUNK_TOKENS}
"""The sizes that a graph is traced at where they are not fixed."""


class TextEncoder(torch.nn.Module):
    """CLIP's text model: token ids [B, 77] int64 to two hidden states [B, 77, width]."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The last hidden state, and the last but one after the same final layer norm."""
        output = self.network(input_ids=input_ids, output_hidden_states=True)
        model: Any = getattr(self.network, "text_model", self.network)
        return output.last_hidden_state, model.final_layer_norm(output.hidden_states[-2])


class UNet(torch.nn.Module):
    """The denoiser: latents [B, 4|9, h, w], timesteps [B], embeddings [B, tokens, width]."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
    ) -> torch.Tensor:
        """The prediction [B, 4, h, w]."""
        output: tuple[torch.Tensor] = self.network(
            sample, timestep, encoder_hidden_states, return_dict=False
        )
        return output[0]


class VaeEncoder(torch.nn.Module):
    """The VAE's first half: pictures [B, 3, 8h, 8w] in -1..1 to moments [B, 8, h, w]."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        """Mean and log-variance of the latents, before sampling."""
        network: Any = self.network
        moments: torch.Tensor = network.encoder(sample)
        return moments if network.quant_conv is None else network.quant_conv(moments)


class VaeDecoder(torch.nn.Module):
    """The VAE's second half: latents [B, 4, h, w] in its own scale to pictures [B, 3, 8h, 8w]."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, latent_sample: torch.Tensor) -> torch.Tensor:
        """Pictures in about -1..1, not clipped."""
        network: Any = self.network
        if network.post_quant_conv is not None:
            latent_sample = network.post_quant_conv(latent_sample)
        picture: torch.Tensor = network.decoder(latent_sample)
        return picture


class _Upsample(torch.nn.Module):
    """diffusers' Upsample2D where the output size is given, without its Python arithmetic.

    That arithmetic, on sizes, guards against a fault of old kernels; it cannot be traced.
    """

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.conv = original.conv

    def forward(
        self, hidden_states: torch.Tensor, output_size: list[int] | None = None
    ) -> torch.Tensor:
        size = output_size or [2 * side for side in hidden_states.shape[2:]]
        enlarged = F.interpolate(hidden_states, size=size, mode="nearest")
        result: torch.Tensor = self.conv(enlarged)
        return result


def make_traceable(component: str, network: torch.nn.Module) -> None:
    """Replace, in place, what `torch.export` cannot follow in the network of a component."""
    from diffusers.models.upsampling import Upsample2D

    if component != layout.UNET:
        return
    for name, module in list(network.named_modules()):
        if isinstance(module, Upsample2D):
            network.set_submodule(name, _Upsample(module))


_Sizes = Mapping[str, int]


@dataclass(frozen=True)
class GraphKind:
    """How one component of the bundle comes from a network of the model.

    `source` is the model's component; `example` makes inputs to trace with, from the network's
    configuration, the dtype and the sizes of the axes.
    """

    source: str
    module: Callable[[torch.nn.Module], torch.nn.Module]
    example: Callable[[dict[str, Any], torch.dtype, _Sizes], tuple[torch.Tensor, ...]]


def _example_tokens(
    config: dict[str, Any], _: torch.dtype, size: _Sizes
) -> tuple[torch.Tensor, ...]:
    return (torch.zeros(size["batch"], layout.CHUNK_TOKENS, dtype=torch.int64),)


def _example_unet(
    config: dict[str, Any], dtype: torch.dtype, size: _Sizes
) -> tuple[torch.Tensor, ...]:
    batch, channels, width = size["batch"], config["in_channels"], config["cross_attention_dim"]
    return (
        torch.zeros(batch, channels, size["height"], size["width"], dtype=dtype),
        torch.zeros(batch, dtype=torch.float32),
        torch.zeros(batch, size["tokens"], width, dtype=dtype),
    )


def _example_picture(
    config: dict[str, Any], dtype: torch.dtype, size: _Sizes
) -> tuple[torch.Tensor, ...]:
    scale = latent_downscale(config)
    height, width = size["height"] * scale, size["width"] * scale
    return (torch.zeros(size["batch"], 3, height, width, dtype=dtype),)


def _example_latents(
    config: dict[str, Any], dtype: torch.dtype, size: _Sizes
) -> tuple[torch.Tensor, ...]:
    channels = config["latent_channels"]
    return (torch.zeros(size["batch"], channels, size["height"], size["width"], dtype=dtype),)


GRAPHS: Final[dict[str, GraphKind]] = {
    layout.TEXT_ENCODER: GraphKind(TEXT_ENCODER, TextEncoder, _example_tokens),
    layout.UNET: GraphKind(UNET, UNet, _example_unet),
    layout.VAE_ENCODER: GraphKind(VAE, VaeEncoder, _example_picture),
    layout.VAE_DECODER: GraphKind(VAE, VaeDecoder, _example_latents),
}
"""Every component of the bundle, in the layout's order."""


def example_inputs(
    component: str, config: dict[str, Any], dtype: torch.dtype, fixed: Mapping[str, int]
) -> tuple[torch.Tensor, ...]:
    """Inputs to trace a component with.

    Args:
        component: one of `GRAPHS`.
        config: of its network.
        dtype: of its weights.
        fixed: the sizes of the axes that are not dynamic, by the layout's names.
    """
    return GRAPHS[component].example(config, dtype, {**_TRACED, **fixed})


def dynamic_shapes(component: str, fixed: Mapping[str, int]) -> tuple[dict[int, Any], ...]:
    """For each input of a component, the axes that `torch.export` must keep dynamic."""
    return tuple(
        {
            i: Dim.DYNAMIC
            for i, axis in enumerate(axes)
            if isinstance(axis, str) and axis not in fixed
        }
        for axes in layout.COMPONENTS[component].inputs.values()
    )
