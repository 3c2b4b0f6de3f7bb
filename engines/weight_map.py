"""weights.json: which tensor of the fused model each weight of a graph is, and how it lies there.

An engine is refitted by the names that a graph's weights have. With this, whoever has the fused
model's safetensors files can do it without reading the graph.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from engines.errors import BundleError
from engines.fields import FieldError, parse_fields, parse_json
from engines.session import Array


@dataclass(frozen=True)
class WeightSource:
    """How a graph's weight comes from a stored tensor: its axes in this order, then this shape.

    Where the bundle has textual-inversion embeddings, the text encoder's table of tokens has their
    vectors as further rows, which come behind the stored ones before anything is arranged.
    """

    tensor: str
    order: tuple[int, ...]
    shape: tuple[int, ...]

    def arrange(self, values: Array) -> Array:
        """The stored tensor's values as the graph has them, in the dtype that they have."""
        return values.transpose(self.order).reshape(self.shape)


@dataclass(frozen=True)
class WeightMap:
    """The weights of one graph.

    `file` is the one in the fused model that holds the tensors; `weights` goes by the names of the
    graph's initializers. `constants` are its other initializers, which no fusing changes: sizes,
    masks, frequencies.
    """

    file: str
    weights: dict[str, WeightSource]
    constants: tuple[str, ...]


def write_weight_map(weight_map: WeightMap, path: Path) -> None:
    """Write a weights.json."""
    path.write_text(json.dumps(dataclasses.asdict(weight_map)) + "\n", encoding="utf-8")


def read_weight_map(path: Path) -> WeightMap:
    """Read a weights.json.

    Raises:
        BundleError: it is missing, or is none.
    """
    try:
        found = parse_fields(WeightMap, parse_json(path.read_bytes()))
    except FileNotFoundError:
        raise BundleError(f"There is no {path}. Export the bundle again.") from None
    except (OSError, ValueError, FieldError) as error:
        raise BundleError(f"{path} cannot be read: {error}. Export the bundle again.") from error
    for name, source in found.weights.items():
        if sorted(source.order) != list(range(len(source.order))):
            raise BundleError(f"{path}: the axes of {name} have no order. Export the bundle again.")
    return found
