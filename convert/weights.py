"""Giving a network its tensors: real ones, or fakes that can be traced and hold no memory.

The values come from the files by name and one at a time. `from_pretrained` would fill a missing
tensor with random numbers and go on.
"""

from collections.abc import Callable
from typing import Final

import torch
from torch._subclasses import FakeTensorMode

from convert.fuse import load_tensor
from convert.model import Component, canonical_name
from convert.networks import build_network
from engines.errors import InputError, InternalError

_POSITION_IDS: Final = "position_ids"


def load_network(component: Component) -> torch.nn.Module:
    """A component's network with its values, in float32."""

    def load(name: str, _: torch.Tensor) -> torch.Tensor:
        stored = canonical_name(component.name, name)
        if stored is None:
            raise InternalError(f"{name} of {component.name} is no weight")
        return load_values(component, stored, torch.float32)

    return _assign(build_network(component), load)


def fake_network(
    component: Component, dtype: torch.dtype
) -> tuple[torch.nn.Module, FakeTensorMode]:
    """A component's network in `dtype`, without values.

    Returns:
        The network, and the mode under which its inputs are made and it is traced.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def fake(_: str, value: torch.Tensor) -> torch.Tensor:
        with mode:
            return torch.empty(value.shape, dtype=dtype)

    return _assign(build_network(component), fake), mode


def load_values(component: Component, name: str, dtype: torch.dtype) -> torch.Tensor:
    """One tensor of a component, rounded to `dtype`.

    Raises:
        InputError: a value is no finite number, or too large for `dtype`.
    """
    parts = []
    for tensor in component.parts(name):
        values = load_tensor(tensor).to(dtype)
        if not torch.isfinite(values).all():
            raise InputError(
                f"{tensor.file}: {tensor.name} has values that are no finite numbers, or too large "
                f"for {str(dtype).removeprefix('torch.')}. Export with --dtype fp32, or get the "
                "file again."
            )
        parts.append(values)
    if len(parts) == 1:
        return parts[0]
    return torch.cat([parts[0], *(rows.reshape(-1, parts[0].shape[-1]) for rows in parts[1:])])


def _assign(
    network: torch.nn.Module, value_of: Callable[[str, torch.Tensor], torch.Tensor]
) -> torch.nn.Module:
    """Replace every tensor of a network that was built on the meta device."""
    state = {name: value_of(name, value) for name, value in network.state_dict().items()}
    network.load_state_dict(state, assign=True)
    for module in network.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.device.type != "meta":
                continue
            if name != _POSITION_IDS:
                raise InternalError(f"the buffer {name} of {type(module).__name__} has no values")
            module.register_buffer(name, torch.arange(buffer.numel())[None], persistent=False)
    return network.requires_grad_(False)
