"""What is used of TensorRT is there, under these names, in both of its modules.

tensorrt_11_4.json has every public name of some classes of the real `tensorrt` 11.4 module, which
cannot be installed everywhere; `tensorrt_rtx` itself is asked.
"""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from convert.plans import api
from tests.convert.plans import recording_tensorrt

DATA_CENTRE: dict[str, list[str]] = json.loads(
    (Path(__file__).parent / "tensorrt_11_4.json").read_text()
)["names"]
MODULES = ("TensorRt", "RtxTensorRt")
CLASSES = {
    name: value
    for name, value in vars(api).items()
    if inspect.isclass(value) and value.__module__ == api.__name__ and name not in MODULES
}


def _own_names(protocol: type[Any]) -> set[str]:
    """What a protocol itself declares; `__bool__` and the like are not in the lists."""
    names = set(protocol.__annotations__) | {
        name for name, value in vars(protocol).items() if inspect.isfunction(value)
    }
    return {name for name in names if not name.startswith("_")}


def test_every_class_is_looked_at() -> None:
    assert {"Builder", "IBuilderConfig", "RtxIBuilderConfig", "OnnxParser"} <= CLASSES.keys()
    assert "build_serialized_network_to_stream" in _own_names(api.Builder)
    assert "builder_optimization_level" in _own_names(api.IBuilderConfig)


@pytest.mark.parametrize("name", CLASSES)
def test_names_are_in_tensorrt_for_rtx(name: str) -> None:
    real = pytest.importorskip("tensorrt_rtx")
    owner = getattr(real, name.removeprefix("Rtx"))
    assert [each for each in _own_names(CLASSES[name]) if not hasattr(owner, each)] == []


@pytest.mark.parametrize("name", [name for name in CLASSES if not name.startswith("Rtx")])
def test_names_are_in_data_centre_tensorrt(name: str) -> None:
    assert _own_names(CLASSES[name]) <= set(DATA_CENTRE[name])


def test_names_of_the_modules() -> None:
    assert _own_names(api.TensorRt) <= DATA_CENTRE.keys()
    real = pytest.importorskip("tensorrt_rtx")
    names = _own_names(api.TensorRt) | _own_names(api.RtxTensorRt)
    assert [name for name in names if not hasattr(real, name)] == []


def test_the_stand_in_has_no_name_that_the_real_module_lacks() -> None:
    for name, value in vars(recording_tensorrt).items():
        if name in DATA_CENTRE and inspect.isclass(value):
            own = {each for each in vars(value) if not each.startswith("_")}
            assert own <= set(DATA_CENTRE[name]), name
