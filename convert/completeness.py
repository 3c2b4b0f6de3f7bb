"""Whether a base has every tensor that its configurations call for, in the right shape.

diffusers itself fills a missing tensor with random numbers and goes on.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from convert.model import TEXT_ENCODER, UNET, VAE, BaseModel, Component, canonical_name
from engines.errors import InputError

_NAMED_FAULTS = 20


def check_complete(base: BaseModel) -> None:
    """Compare the base's tensors with those of the networks that its configurations describe.

    Raises:
        InputError: a configuration describes no network, or tensors are missing, of another
            shape, or unknown; the error names them, up to a limit.
    """
    for component in base.components.values():
        _check_component(component, _expected_shapes(component))


def _check_component(component: Component, expected: Mapping[str, tuple[int, ...]]) -> None:
    found = component.tensors
    faults = [f"{name} is missing" for name in expected.keys() - found.keys()]
    faults += [f"{name} is unknown" for name in found.keys() - expected.keys()]
    faults += [
        f"{name} has the shape {found[name].shape} instead of {shape}"
        for name, shape in expected.items()
        if name in found and found[name].shape != shape
    ]
    if faults:
        named = "; ".join(sorted(faults)[:_NAMED_FAULTS])
        rest = len(faults) - _NAMED_FAULTS
        more = f"; and {rest} more" if rest > 0 else ""
        raise InputError(f"{component.file} does not fit its config.json: {named}{more}.")


def _expected_shapes(component: Component) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's parameters, from an instance that holds no memory."""
    build = _BUILDERS[component.name]
    try:
        with torch.device("meta"):
            network = build(component.config)
    except (ArithmeticError, LookupError, NotImplementedError, TypeError, ValueError) as error:
        raise InputError(
            f"{component.file.parent / 'config.json'} describes no {component.name} that can be "
            f"built: {str(error).partition(chr(10))[0]}"
        ) from error
    names = {canonical_name(component.name, name): name for name, _ in network.named_parameters()}
    return {
        canonical: tuple(network.get_parameter(name).shape)
        for canonical, name in names.items()
        if canonical is not None
    }


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


_BUILDERS: dict[str, Callable[[Mapping[str, Any]], torch.nn.Module]] = {
    TEXT_ENCODER: _build_text_encoder,
    UNET: _build_unet,
    VAE: _build_vae,
}
