"""weights.json: the same after writing and reading, applied as numpy would, refused if damaged."""

from pathlib import Path

import numpy as np
import pytest

from engines.errors import BundleError
from engines.weight_map import WeightMap, WeightSource, read_weight_map, write_weight_map

MAP = WeightMap(
    "unet/weights.safetensors",
    {
        "a.weight": WeightSource("a.weight", (1, 0), (3, 2)),
        "norm.weight": WeightSource("norm.weight", (0,), (4, 1, 1)),
    },
    ("val_7",),
)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_weight_map(MAP, tmp_path / "weights.json")
    assert read_weight_map(tmp_path / "weights.json") == MAP


def test_axes_are_ordered_and_then_shaped() -> None:
    values = np.arange(6, dtype=np.float16).reshape(2, 3)
    expected = [[0, 3], [1, 4], [2, 5]]
    assert MAP.weights["a.weight"].arrange(values).tolist() == expected
    norm = MAP.weights["norm.weight"].arrange(np.arange(4, dtype=np.float16))
    assert norm.tolist() == [[[0]], [[1]], [[2]], [[3]]]
    assert norm.dtype == np.float16


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ('{"file": "a", "constants": []}', "weights is missing"),
        (
            '{"file": "a", "constants": [], "weights": '
            '{"w": {"tensor": "w", "order": [0, 2], "shape": [2, 3]}}}',
            "the axes of w have no order",
        ),
    ],
)
def test_a_damaged_one_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "weights.json"
    path.write_text(content)
    with pytest.raises(BundleError, match=message):
        read_weight_map(path)


def test_a_missing_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"There is no .*weights\.json\. Export the bundle again"):
        read_weight_map(tmp_path / "weights.json")
