"""Graphs whose sizes are fixed: what is fixed, and any batch through one that takes two entries."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from engines import layout
from engines.any_batch import open_to_any_batch
from engines.axes import Limits, fixed_axes, fixed_limits, fixed_sizes, input_ranges
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
        found = session.run(feeds)["out_sample"].copy()
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


class Counter(Session):
    """Adds 1 to its samples, and remembers what it was fed."""

    def __init__(self) -> None:
        super().__init__(DYNAMIC)
        self.fed: list[list[str]] = []
        self.batches: list[int] = []
        self._bound: dict[str, Array] = {}

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        self._bound.update({name: array.copy() for name, array in feeds.items()})
        self.fed.append(sorted(feeds))
        self.batches.append(len(self._bound["sample"]))
        return {"out_sample": self._bound["sample"] + 1}

    def close(self) -> None:
        self.fed.append(["closed"])


def test_more_entries_than_the_backend_takes_go_in_parts() -> None:
    inner = Counter()
    with open_to_any_batch(inner, layout.UNET, DYNAMIC, most=3) as session:
        for entries in (2, 7, 3):
            sample = np.random.default_rng(entries).normal(size=(entries, 4, 3, 5))
            sample = sample.astype(np.float32)
            found = session.run({"sample": sample})["out_sample"]
            np.testing.assert_array_equal(found, sample + 1)
        assert inner.batches == [2, 3, 3, 1, 3]
        session.run({})
    assert inner.fed == [["sample"]] * 5 + [[], ["closed"]], "what is bound crosses no bus again"


def test_limits_hold_together_or_not_at_all() -> None:
    narrow = {"height": (8, 8), "width": (8, 16), "batch": (1, 16)}
    wide = {"height": (4, 32), "width": (4, 6), "batch": (1, 4)}
    limits = Limits({layout.UNET: (narrow, wide), layout.VAE_DECODER: ({},)})
    assert limits.take(layout.UNET, {"height": 8, "width": 16})
    assert limits.take(layout.UNET, {"height": 32, "width": 4})
    assert not limits.take(layout.UNET, {"height": 32, "width": 16}), "each fits, not both"
    assert limits.take(layout.UNET, {"height": 8, "width": 16, "tokens": 10**6})
    assert limits.take(layout.VAE_DECODER, {"height": 1})
    assert limits.take(layout.TEXT_ENCODER, {"batch": 99})
    assert limits.most(layout.UNET, "batch") == 4
    assert limits.most(layout.UNET, "tokens") is None
    assert limits.most(layout.TEXT_ENCODER, "batch") is None


def test_ranges_of_an_axis_are_what_all_inputs_have_in_common() -> None:
    shapes = {
        "sample": ((1, 4, 32, 40), (8, 4, 128, 96)),
        "timestep": ((2,), (16,)),
        "encoder_hidden_states": ((1, 77, 8), (8, 308, 8)),
    }
    assert input_ranges(layout.UNET, shapes) == {
        "batch": (2, 8),
        "height": (32, 128),
        "width": (40, 96),
        "tokens": (77, 308),
    }


def test_fixed_graphs_limit_all_but_the_batch() -> None:
    manifest = Manifest("look", "", {}, Latents(4, 8, 1.0), {layout.UNET: SPEC}, {})
    (ranges,) = fixed_limits(manifest).components[layout.UNET]
    assert ranges == {"height": (3, 3), "width": (5, 5), "tokens": (77, 77)}


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
