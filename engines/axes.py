"""Sizes that a bundle's graphs are fixed to, where they were exported so."""

from engines import layout
from engines.manifest import ComponentSpec, Manifest


def fixed_axes(component: str, spec: ComponentSpec) -> dict[str, int]:
    """The layout's dynamic axes that a graph has a number for, with that number."""
    declared = layout.COMPONENTS[component]
    axes = {**declared.outputs, **declared.inputs}
    return {
        axis: size
        for tensor in (*spec.inputs, *spec.outputs)
        for axis, size in zip(axes.get(tensor.name, ()), tensor.shape, strict=False)
        if isinstance(axis, str) and isinstance(size, int)
    }


def fixed_sizes(manifest: Manifest) -> dict[str, int]:
    """The same of all graphs of a bundle."""
    sizes: dict[str, int] = {}
    for component, spec in manifest.components.items():
        if component in layout.COMPONENTS:
            sizes |= fixed_axes(component, spec)
    return sizes
