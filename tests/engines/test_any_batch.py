"""Graphs whose sizes are fixed: what is fixed, and any batch through one that takes two entries."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from engines import layout
from engines.any_batch import open_to_any_batch
from engines.axes import fixed_axes, fixed_sizes
from engines.errors import InternalError
from engines.manifest import ComponentSpec, Latents, Manifest, TensorSpec
from engines.session import Array, Session

SPEC = ComponentSpec(
    graph="unet/model.onnx",
    dtype="float32",
    inputs=(
        TensorSpec("sample", "float32", (2, 4, 3, 5)),
        TensorSpec("timestep", "float32", (2,)),
        TensorSpec("encoder_hidden_states", "float32", (2, 77, 8)),
    ),
    outputs=(TensorSpec("out_sample", "float32", (2, 4, 3, 5)),),
)
DYNAMIC = replace(
    SPEC,
    inputs=(TensorSpec("sample", "float32", ("batch", 4, 3, "width")),),
    outputs=(TensorSpec("out_sample", "float32", ("batch", 4, 3, "width")),),
)


class Adder(Session):
    """Adds its inputs up in buffers that the next call overwrites, as an engine may."""

    def __init__(self, spec: ComponentSpec) -> None:
        super().__init__(spec)
        self.calls = 0
        self.closed = False
        self._bound: dict[str, Array] = {}
        self._output = np.empty((2, 4, 3, 5), np.float32)

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        self._bound.update(feeds)
        self.calls += 1
        text = self._bound["encoder_hidden_states"][:, 0, 0]
        self._output[:] = self._bound["sample"]
        self._output += (self._bound["timestep"] + text)[:, None, None, None]
        return {"out_sample": self._output}

    def close(self) -> None:
        self.closed = True


def _feeds(batch: int) -> dict[str, Array]:
    return {
        "sample": np.random.default_rng(1).integers(0, 99, (batch, 4, 3, 5)).astype(np.float32),
        "timestep": np.arange(batch, dtype=np.float32),
        "encoder_hidden_states": np.full((batch, 77, 8), 10, np.float32),
    }


@pytest.mark.parametrize(("batch", "calls"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_every_entry_comes_through_in_its_place(batch: int, calls: int) -> None:
    inner = Adder(SPEC)
    feeds = _feeds(batch)
    with open_to_any_batch(inner, layout.UNET, SPEC) as session:
        found = session.run(feeds)["out_sample"]
        np.testing.assert_array_equal(
            found, feeds["sample"] + feeds["timestep"][:, None, None, None] + 10
        )
        again = session.run({"timestep": feeds["timestep"] + 1})["out_sample"]
        np.testing.assert_array_equal(again, found + 1)
    assert inner.calls == 2 * calls
    assert inner.closed


def test_other_sizes_stay_fixed() -> None:
    session = open_to_any_batch(Adder(SPEC), layout.UNET, SPEC)
    assert [tensor.shape for tensor in session.inputs] == [
        ("batch", 4, 3, 5),
        ("batch",),
        ("batch", 77, 8),
    ]
    with pytest.raises(InternalError, match="sample must have the shape"):
        session.run({**_feeds(2), "sample": np.zeros((2, 4, 5, 5), np.float32)})


def test_dynamic_batch_is_left_alone() -> None:
    session = Adder(DYNAMIC)
    assert open_to_any_batch(session, layout.UNET, DYNAMIC) is session


def test_fixed_axes_are_those_that_the_layout_names() -> None:
    assert fixed_axes(layout.UNET, SPEC) == {"batch": 2, "height": 3, "width": 5, "tokens": 77}
    assert fixed_axes(layout.UNET, DYNAMIC) == {"height": 3}
    encoder = ComponentSpec(
        graph="vae_encoder/model.onnx",
        dtype="float32",
        inputs=(TensorSpec("sample", "float32", ("batch", 3, 24, 40)),),
        outputs=(TensorSpec("latent_parameters", "float32", ("batch", 8, 3, 5)),),
    )
    manifest = Manifest(
        "look", "", {}, Latents(4, 8, 1.0), {layout.UNET: SPEC, layout.VAE_ENCODER: encoder}, {}
    )
    pixels = {"picture_height": 24, "picture_width": 40}
    assert fixed_axes(layout.VAE_ENCODER, encoder) == {"height": 3, "width": 5, **pixels}
    assert fixed_sizes(manifest) == {**fixed_axes(layout.UNET, SPEC), **pixels}
