"""The shapes of Stable Diffusion 1.5's own networks, known without building them.

Building a network needs diffusers and transformers, whose import takes longer than reading a model.
"""

from collections.abc import Mapping
from typing import Any, Final

from convert.checkpoint import CONFIGURATION
from convert.json_file import read_json
from convert.model import UNET

SHAPES: Final = CONFIGURATION / "shapes.json"
"""For each component, the shape of every parameter; `tests/convert/make_shapes.py` wrote it."""


def known_shapes(component: str, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]] | None:
    """The shapes of the network with this configuration; None where it is not the packaged one.

    The UNet's input channels may differ.
    """
    known = read_json(CONFIGURATION / component / "config.json")
    if component == UNET:
        known["in_channels"] = config.get("in_channels")
    if config != known:
        return None
    shapes = {name: tuple(shape) for name, shape in read_json(SHAPES)[component].items()}
    if component == UNET:
        outputs, _, *kernel = shapes["conv_in.weight"]
        shapes["conv_in.weight"] = (outputs, config["in_channels"], *kernel)
    return shapes
