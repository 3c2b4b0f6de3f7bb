"""The names under which LoRA files know a base's layers, and the blocks that the layers lie in."""

from collections.abc import Mapping
from typing import Any

from convert.ldm import unet_modules
from convert.model import TEXT_ENCODER, UNET, Component

_PREFIX = "text_model."


def layers_by_name(component: Component) -> dict[str, str]:
    """For every name of each layer and norm, with underscores for dots, the layer's own name.

    A layer of the UNet has two: diffusers' and the original layout's. One of the text encoder has
    one with and one without `text_model_`, as old and new versions of transformers write it.
    """
    modules = [
        name.removesuffix(".weight")
        for name, tensor in component.tensors.items()
        if name.endswith(".weight") and not name.startswith("text_model.embeddings.")
    ]
    names = {module.replace(".", "_"): module for module in modules}
    if component.name == TEXT_ENCODER:
        names |= {module.removeprefix(_PREFIX).replace(".", "_"): module for module in modules}
    if component.name == UNET:
        original = original_names(component.config)
        for module in modules:
            name = find_original(module, original)
            if name is not None:
                names[name.replace(".", "_")] = module
    return names


def original_names(config: Mapping[str, Any]) -> dict[str, str]:
    """For the modules of a UNet in diffusers' naming, the original layout's: whole blocks too."""
    return {named: original for original, named in unet_modules(config).items()}


def find_original(module: str, names: Mapping[str, str]) -> str | None:
    """A UNet layer's name in the original layout; None where the table has no such layer."""
    parent = module
    while parent:
        if parent in names:
            return names[parent] + module[len(parent) :]
        parent = parent.rpartition(".")[0]
    return None
