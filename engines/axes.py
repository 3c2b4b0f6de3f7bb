"""The sizes that a bundle's graphs take: some are exported or built for certain ones only."""

from collections.abc import Mapping
from dataclasses import dataclass

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


Ranges = Mapping[str, tuple[int, int]]
"""For axes of the layout, the least and the greatest size."""


@dataclass(frozen=True)
class Limits:
    """What the graphs of a bundle take on one backend.

    `components` has for each component its alternatives: the sizes of a call must all lie in the
    ranges of one. A component or axis that is not there takes every size.
    """

    components: Mapping[str, tuple[Ranges, ...]]

    def take(self, component: str, sizes: Mapping[str, int]) -> bool:
        """Whether a component takes these sizes together."""
        alternatives = self.components.get(component, ({},))
        return any(
            all(
                ranges[axis][0] <= size <= ranges[axis][1]
                for axis, size in sizes.items()
                if axis in ranges
            )
            for ranges in alternatives
        )

    def most(self, component: str, axis: str) -> int | None:
        """The greatest size of an axis that every alternative takes; None where all are taken."""
        ends = [ranges[axis][1] for ranges in self.components.get(component, ()) if axis in ranges]
        return min(ends, default=None)


def fixed_limits(manifest: Manifest) -> Limits:
    """The limits that lie in the graphs themselves: axes that have a number in the place of a name.

    The batch is left out: `engines.any_batch` takes any.
    """
    return Limits(
        {
            component: (
                {
                    axis: (size, size)
                    for axis, size in fixed_axes(component, spec).items()
                    if axis != "batch"
                },
            )
            for component, spec in manifest.components.items()
            if component in layout.COMPONENTS
        }
    )


def input_ranges(
    component: str, shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
) -> Ranges:
    """The ranges of a component's axes, from the smallest and largest shape of every input.

    An axis that several inputs have gets what they have in common.
    """
    ranges: dict[str, tuple[int, int]] = {}
    for name, (smallest, largest) in shapes.items():
        axes = layout.COMPONENTS[component].inputs.get(name, ())
        for axis, least, most in zip(axes, smallest, largest, strict=False):
            if isinstance(axis, str):
                known_least, known_most = ranges.get(axis, (least, most))
                ranges[axis] = (max(least, known_least), min(most, known_most))
    return ranges
