"""Write the shapes of Stable Diffusion 1.5's networks, as diffusers and transformers build them.

python -m tests.convert.make_shapes
"""

import json

from convert.checkpoint import CONFIGURATION
from convert.json_file import read_json
from convert.known_shapes import SHAPES
from convert.model import WEIGHT_FILES, Component, canonical_name
from convert.networks import build_network


def shapes_of_networks() -> dict[str, dict[str, list[int]]]:
    """The shape of every parameter, by component and canonical name."""
    shapes = {}
    for part in WEIGHT_FILES:
        config = read_json(CONFIGURATION / part / "config.json")
        network = build_network(Component(part, config, {}, CONFIGURATION))
        shapes[part] = {
            canonical_name(part, name) or name: list(parameter.shape)
            for name, parameter in network.named_parameters()
        }
    return shapes


def main() -> None:
    """Write them one to a line."""
    parts = []
    for part, shapes in shapes_of_networks().items():
        lines = [f"    {json.dumps(name)}: {json.dumps(shape)}" for name, shape in shapes.items()]
        parts.append(f"  {json.dumps(part)}: {{\n" + ",\n".join(lines) + "\n  }")
    SHAPES.write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()
