"""The three torch networks of a model, built from their configurations without their values."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch

from convert.model import TEXT_ENCODER, UNET, VAE, Component
from engines.errors import InputError


def build_network(component: Component) -> torch.nn.Module:
    """A component's network on the meta device, in evaluation mode: shapes and no memory.

    Raises:
        InputError: the component's configuration describes no network.
    """
    build = _BUILDERS[component.name]
    try:
        with torch.device("meta"):
            network = build(component.config)
    except (ArithmeticError, LookupError, NotImplementedError, TypeError, ValueError) as error:
        raise InputError(
            f"{component.file.parent / 'config.json'} describes no {component.name} that can be "
            f"built: {str(error).partition(chr(10))[0]}"
        ) from error
    return network.eval().requires_grad_(False)


def _build_unet(config: Mapping[str, Any]) -> torch.nn.Module:
    from diffusers import UNet2DConditionModel

    network: torch.nn.Module = UNet2DConditionModel.from_config(config)
    return network


def _build_vae(config: Mapping[str, Any]) -> torch.nn.Module:
    from diffusers import AutoencoderKL

    network: torch.nn.Module = AutoencoderKL.from_config(config)
    return network


def _build_text_encoder(config: Mapping[str, Any]) -> torch.nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    network: torch.nn.Module = CLIPTextModel(CLIPTextConfig(**config))
    return network


_BUILDERS: Final[dict[str, Callable[[Mapping[str, Any]], torch.nn.Module]]] = {
    TEXT_ENCODER: _build_text_encoder,
    UNET: _build_unet,
    VAE: _build_vae,
}
