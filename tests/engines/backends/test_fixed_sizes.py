"""A session that is compiled for the sizes of its inputs: when anew, and with which inputs."""

from collections.abc import Mapping

import numpy as np
import pytest

from engines.backends.fixed_sizes import FixedSizesSession
from engines.errors import InternalError
from engines.manifest import ComponentSpec, TensorSpec
from engines.session import Array, Session

SPEC = ComponentSpec(
    "unet/model.onnx",
    "float32",
    inputs=(
        TensorSpec("sample", "float32", ("batch", 4, "height")),
        TensorSpec("scale", "float32", ("batch",)),
    ),
    outputs=(TensorSpec("out", "float32", ("batch", 4, "height")),),
)


class Compiled(Session):
    """sample * scale, for one batch and height only."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        super().__init__(SPEC)
        self.sizes = dict(sizes)
        self.fed: list[set[str]] = []
        self.closed = False
        self._bound: dict[str, Array] = {}

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        assert not self.closed
        self.fed.append(set(feeds))
        self._bound.update(feeds)
        sample, scale = self._bound["sample"], self._bound["scale"]
        assert sample.shape == (self.sizes["batch"], 4, self.sizes["height"])
        return {"out": sample * scale[:, None, None]}

    def close(self) -> None:
        self.closed = True


class Compiler:
    def __init__(self) -> None:
        self.made: list[Compiled] = []

    def __call__(self, sizes: Mapping[str, int]) -> Session:
        assert all(session.closed for session in self.made), "two copies of the weights"
        self.made.append(Compiled(sizes))
        return self.made[-1]


def sample(batch: int, height: int) -> Array:
    return np.arange(batch * 4 * height, dtype=np.float32).reshape(batch, 4, height)


def test_it_compiles_once_for_sizes_and_feeds_what_changed() -> None:
    compiler = Compiler()
    with FixedSizesSession(SPEC, compiler) as session:
        assert not compiler.made
        scale = np.array([2.0, 3.0], np.float32)
        session.run({"sample": sample(2, 5), "scale": scale})
        out = session.run({"sample": sample(2, 5) + 1})["out"]
        np.testing.assert_array_equal(out, (sample(2, 5) + 1) * scale[:, None, None])
    (compiled,) = compiler.made
    assert compiled.sizes == {"batch": 2, "height": 5}
    assert compiled.fed == [{"sample", "scale"}, {"sample"}]
    assert compiled.closed


def test_other_sizes_are_compiled_with_every_bound_input() -> None:
    compiler = Compiler()
    with FixedSizesSession(SPEC, compiler) as session:
        scale = np.array([2.0, 3.0], np.float32)
        session.run({"sample": sample(2, 5), "scale": scale})
        out = session.run({"sample": sample(2, 7)})["out"]
        np.testing.assert_array_equal(out, sample(2, 7) * scale[:, None, None])
        session.run({"sample": sample(1, 7), "scale": scale[:1]})
    assert [compiled.sizes["height"] for compiled in compiler.made] == [5, 7, 7]
    assert [compiled.closed for compiled in compiler.made] == [True, True, True]


def test_inputs_that_do_not_fit_each_other_compile_nothing() -> None:
    compiler = Compiler()
    session = FixedSizesSession(SPEC, compiler)
    with pytest.raises(InternalError, match="axis 'batch'"):
        session.run({"sample": sample(2, 5), "scale": np.ones(3, np.float32)})
    assert not compiler.made
