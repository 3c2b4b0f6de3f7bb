"""Whether a base has every tensor that its configurations call for, in the right shape.

diffusers itself fills a missing tensor with random numbers and goes on.
"""

from collections.abc import Mapping

from convert.known_shapes import known_shapes
from convert.model import BaseModel, Component, canonical_name
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
        raise InputError(f"{component.file} has no whole {component.name}: {named}{more}.")


def _expected_shapes(component: Component) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's parameters, where need be from an instance that holds no memory."""
    known = known_shapes(component.name, component.config)
    if known is not None:
        return known

    from convert.networks import build_network

    network = build_network(component)
    names = {canonical_name(component.name, name): name for name, _ in network.named_parameters()}
    return {
        canonical: tuple(network.get_parameter(name).shape)
        for canonical, name in names.items()
        if canonical is not None
    }
