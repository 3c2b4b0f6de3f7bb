"""The checks that every backend inherits."""

from collections.abc import Mapping

import numpy as np
import pytest

from engines.errors import InternalError
from engines.manifest import ComponentSpec, TensorSpec
from engines.session import Array, Session

SPEC = ComponentSpec(
    graph="unet/model.onnx",
    dtype="float32",
    inputs=(
        TensorSpec("sample", "float32", ("batch", 4, "height", "width")),
        TensorSpec("timestep", "float32", ("batch",)),
    ),
    outputs=(TensorSpec("out_sample", "float32", ("batch", 4, "height", "width")),),
)


class Recorder(Session):
    """Remembers what was fed."""

    def __init__(self) -> None:
        super().__init__(SPEC)
        self.fed: list[list[str]] = []
        self.closed = False

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        self.fed.append(sorted(feeds))
        return {}

    def close(self) -> None:
        self.closed = True


def _sample(batch: int = 2, dtype: str = "float32", channels: int = 4) -> Array:
    return np.zeros((batch, channels, 3, 5), dtype)


def _times(batch: int = 2) -> Array:
    return np.zeros(batch, np.float32)


def test_inputs_stay_bound() -> None:
    with Recorder() as session:
        session.run({"sample": _sample(), "timestep": _times()})
        session.run({"timestep": _times()})
        session.run({})
    assert session.fed == [["sample", "timestep"], ["timestep"], []]
    assert session.closed


@pytest.mark.parametrize(
    ("feeds", "fault"),
    [
        ({"sampel": _sample()}, "no input 'sampel'"),
        ({"sample": _sample()}, "timestep was never fed"),
        ({"sample": _sample(dtype="float16"), "timestep": _times()}, "must be float32"),
        ({"sample": _sample(channels=9), "timestep": _times()}, "must have the shape"),
        ({"sample": _sample()[0], "timestep": _times()}, "must have the shape"),
        ({"sample": _sample().transpose(0, 1, 3, 2), "timestep": _times()}, "contiguous"),
        ({"sample": _sample(), "timestep": _times(3)}, "axis 'batch' is 2 in sample and 3"),
    ],
)
def test_wrong_feeds_never_reach_the_engine(feeds: dict[str, Array], fault: str) -> None:
    session = Recorder()
    with pytest.raises(InternalError, match=fault):
        session.run(feeds)
    assert session.fed == []


def test_a_batch_that_grows_must_grow_everywhere() -> None:
    session = Recorder()
    session.run({"sample": _sample(2), "timestep": _times(2)})
    with pytest.raises(InternalError, match="axis 'batch'"):
        session.run({"sample": _sample(3)})
    session.run({"sample": _sample(3), "timestep": _times(3)})
