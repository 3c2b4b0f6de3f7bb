"""A session that is compiled for the sizes of its inputs, and for one entry of a batch."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from engines import layout
from engines.any_batch import open_to_any_batch
from engines.backends.fixed_sizes import FixedSizesSession
from engines.errors import InternalError
from engines.manifest import ComponentSpec, TensorSpec
from engines.session import Array, Session

SPEC = ComponentSpec(
    "unet/model.onnx",
    "float32",
    inputs=(
        TensorSpec(layout.SAMPLE, "float32", ("batch", 4, "height", 1)),
        TensorSpec(layout.TIMESTEP, "float32", ("batch",)),
    ),
    outputs=(TensorSpec(layout.OUT_SAMPLE, "float32", ("batch", 4, "height", 1)),),
)
"""A UNet whose pictures are one pixel wide."""


class Compiled(Session):
    """sample * timestep for one batch and height, in a buffer that the next run overwrites."""

    def __init__(self, spec: ComponentSpec, sizes: Mapping[str, int]) -> None:
        super().__init__(spec)
        self.sizes = dict(sizes)
        self.runs = 0
        self.closed = False
        self._bound: dict[str, Array] = {}
        self._out: Array | None = None

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        assert not self.closed
        self.runs += 1
        self._bound.update(feeds)
        sample, timestep = self._bound["sample"], self._bound["timestep"]
        assert sample.shape == (self.sizes.get("batch", 2), 4, self.sizes["height"], 1)
        self._out = np.multiply(sample, scaled(timestep), out=self._out)
        return {"out_sample": self._out}

    def close(self) -> None:
        self.closed = True


class Compiler:
    def __init__(self, spec: ComponentSpec = SPEC) -> None:
        self.spec = spec
        self.made: list[Compiled] = []

    def __call__(self, sizes: Mapping[str, int]) -> Session:
        assert all(session.closed for session in self.made), "two copies of the weights"
        self.made.append(Compiled(self.spec, sizes))
        return self.made[-1]


def open_session(compiler: Compiler) -> Session:
    """As the OpenVINO backend composes it."""
    compiled = FixedSizesSession(compiler.spec, compiler)
    return open_to_any_batch(compiled, layout.UNET, compiler.spec, most=1)


def sample(batch: int, height: int) -> Array:
    return np.arange(batch * 4 * height, dtype=np.float32).reshape(batch, 4, height, 1)


def scaled(timestep: Array) -> Array:
    return timestep[:, None, None, None]


SCALE = np.array([2.0, 3.0], np.float32)


def test_a_batch_is_as_many_runs_of_one_entry_compiled_once() -> None:
    compiler = Compiler()
    with open_session(compiler) as session:
        assert not compiler.made
        session.run({"sample": sample(2, 5), "timestep": SCALE})
        out = session.run({"sample": sample(2, 5) + 1})["out_sample"]
        np.testing.assert_array_equal(out, (sample(2, 5) + 1) * scaled(SCALE))
        out = session.run({"sample": sample(1, 5), "timestep": SCALE[1:]})["out_sample"]
        np.testing.assert_array_equal(out, sample(1, 5) * 3)
        four = np.arange(4, dtype=np.float32)
        out = session.run({"sample": sample(4, 5), "timestep": four})["out_sample"]
        np.testing.assert_array_equal(out, sample(4, 5) * scaled(four))
    (compiled,) = compiler.made
    assert compiled.sizes == {"batch": 1, "height": 5}
    assert compiled.runs == 2 + 2 + 1 + 4
    assert compiled.closed


def test_other_sizes_are_compiled_with_every_bound_input() -> None:
    compiler = Compiler()
    with open_session(compiler) as session:
        session.run({"sample": sample(2, 5), "timestep": SCALE})
        out = session.run({"sample": sample(2, 7)})["out_sample"]
        np.testing.assert_array_equal(out, sample(2, 7) * scaled(SCALE))
    assert [compiled.sizes["height"] for compiled in compiler.made] == [5, 7]
    assert [compiled.closed for compiled in compiler.made] == [True, True]


def prepare(session: Session, height: int) -> None:
    preparation = session.preparation({"height": height})
    assert preparation is not None
    preparation()


def test_what_was_prepared_is_not_compiled_again() -> None:
    compiler = Compiler()
    with open_session(compiler) as session:
        prepare(session, height=5)
        assert [compiled.sizes for compiled in compiler.made] == [{"batch": 1, "height": 5}]
        session.run({"sample": sample(2, 5), "timestep": SCALE})
        assert session.preparation({"height": 5}) is None
        assert len(compiler.made) == 1
        prepare(session, height=7)
        prepare(session, height=5)
        out = session.run({"sample": sample(2, 5)})["out_sample"]
        np.testing.assert_array_equal(out, sample(2, 5) * scaled(SCALE))
    assert len(compiler.made) == 3


def test_a_batch_that_is_fixed_runs_whole() -> None:
    spec = replace(
        SPEC,
        inputs=(
            TensorSpec("sample", "float32", (2, 4, "height", 1)),
            TensorSpec("timestep", "float32", (2,)),
        ),
        outputs=(TensorSpec("out_sample", "float32", (2, 4, "height", 1)),),
    )
    compiler = Compiler(spec)
    with open_session(compiler) as session:
        out = session.run({"sample": sample(2, 5), "timestep": SCALE})["out_sample"]
        np.testing.assert_array_equal(out, sample(2, 5) * scaled(SCALE))
    (compiled,) = compiler.made
    assert (compiled.sizes, compiled.runs) == ({"height": 5}, 1)


def test_inputs_that_do_not_fit_each_other_compile_nothing() -> None:
    compiler = Compiler()
    session = open_session(compiler)
    with pytest.raises(InternalError, match="axis 'batch'"):
        session.run({"sample": sample(2, 5), "timestep": np.ones(3, np.float32)})
    assert not compiler.made
