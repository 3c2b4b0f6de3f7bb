"""Which of an engine's optimisation profiles takes a call's shapes."""

import math
from collections.abc import Mapping, Sequence

from engines.backends.trt_api import ICudaEngine
from engines.errors import SettingError
from engines.plans import Profile, ShapeRange

Shapes = Mapping[str, tuple[int, ...]]


def read_profiles(engine: ICudaEngine, inputs: Sequence[str]) -> tuple[Profile, ...]:
    """The ranges of every input in every profile of an engine, in the engine's order."""
    return tuple(
        {
            name: ShapeRange(
                *(tuple(shape) for shape in engine.get_tensor_profile_shape(name, index))
            )
            for name in inputs
        }
        for index in range(engine.num_optimization_profiles)
    )


def choose_profile(component: str, profiles: Sequence[Profile], shapes: Shapes) -> int:
    """The profile that takes the shapes; of several, the one with the narrowest ranges.

    A narrow profile has kernels that were chosen for few shapes, so they fit those better.

    Args:
        component: named in the error.
        profiles: an engine's profiles.
        shapes: the shape of every input.

    Raises:
        SettingError: no profile takes them; the message has the ranges of all.
    """
    fitting = [
        index
        for index, profile in enumerate(profiles)
        if all(profile[name].holds(shape) for name, shape in shapes.items())
    ]
    if not fitting:
        asked = ", ".join(f"{name} {_x(shape)}" for name, shape in shapes.items())
        allowed = " or ".join(_describe(profile) for profile in profiles)
        raise SettingError(
            f"The plan of {component} does not take {asked}; it takes {allowed}. "
            "Choose another size, or build plans for this one with `convert build --size`."
        )
    return min(fitting, key=lambda index: _width(profiles[index]))


def _width(profile: Profile) -> float:
    """How far the ranges of a profile reach: the logarithm of largest over smallest, summed up."""
    return sum(
        math.log(most / least)
        for each in profile.values()
        for least, most in zip(each.min, each.max, strict=True)
        if least
    )


def _describe(profile: Profile) -> str:
    return ", ".join(
        f"{name} {_x(each.min)}" + (f" to {_x(each.max)}" if each.min != each.max else "")
        for name, each in profile.items()
    )


def _x(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
