"""What no library covers, against formulas in float64; and shapes that do not fit."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from convert.fuse import load_tensor
from convert.tensors import StoredTensor, open_tensor_file
from convert.updates.difference import IncompleteError, MisfitError, Shape
from convert.updates.module import fit_bias, fit_weight, kind_of, rank_of
from tests.convert.synthetic import Tensors

Array = NDArray[np.float64]

LINEAR: Shape = (12, 8)
CONVOLUTION: Shape = (12, 8, 3, 3)


@dataclass(frozen=True)
class Layer:
    """A random weight and a module for it, as torch tensors and as they are stored."""

    base: torch.Tensor
    values: Tensors
    stored: dict[str, StoredTensor]

    def delta(self, weight: float, alpha: float | None = None) -> Array:
        difference = fit_weight(self.stored, alpha, tuple(self.base.shape))
        assert difference is not None
        before = self.base.clone()
        delta = difference.delta(self.base, lambda tensor: load_tensor(tensor).float(), weight)
        assert torch.equal(self.base, before)
        assert delta.shape == self.base.shape
        total = torch.zeros_like(self.base)
        difference.add_to(total, self.base, lambda tensor: load_tensor(tensor).float(), weight)
        torch.testing.assert_close(total, delta, rtol=1e-5, atol=1e-6)
        return delta.double().numpy()

    def __getitem__(self, role: str) -> Array:
        return self.values[role].double().numpy()


def make_layer(directory: Path, shape: Shape, roles: dict[str, Shape], seed: int = 0) -> Layer:
    generator = torch.Generator().manual_seed(seed)
    values = {role: torch.randn(size, generator=generator) for role, size in roles.items()}
    base = torch.randn(shape, generator=generator)
    return Layer(base, values, store(directory / f"{seed}.safetensors", values))


def store(path: Path, values: Tensors) -> dict[str, StoredTensor]:
    save_file(values, path)
    return open_tensor_file(path).tensors


def low_rank(shape: Shape, rank: int = 3) -> dict[str, Shape]:
    return {
        "lora_down.weight": (rank, *shape[1:]),
        "lora_up.weight": (shape[0], rank, *(1 for _ in shape[2:])),
    }


def product(layer: Layer) -> Array:
    up, down = layer["lora_up.weight"], layer["lora_down.weight"]
    result: Array = np.einsum("or,ri...->oi...", up.reshape(len(up), -1), down)
    return result


@pytest.mark.parametrize("weight", [1.0, 0.6, -0.4, 0.0])
@pytest.mark.parametrize("shape", [LINEAR, CONVOLUTION], ids=str)
@pytest.mark.parametrize("side", ["outputs", "inputs"])
def test_dora_goes_straight_from_the_base_to_the_trained_weight(
    tmp_path: Path, shape: Shape, side: str, weight: float
) -> None:
    ones = (1,) * (len(shape) - 2)
    scales = {"outputs": (shape[0], 1, *ones), "inputs": (1, shape[1], *ones)}
    layer = make_layer(tmp_path, shape, {**low_rank(shape), "dora_scale": scales[side]})
    base = layer.base.double().numpy()
    changed = base + 2 / 3 * product(layer)
    axes = tuple(i for i in range(len(shape)) if i != (0 if side == "outputs" else 1))
    lengths = np.sqrt((changed**2).sum(axis=axes, keepdims=True))
    expected = weight * (layer["dora_scale"] * changed / lengths - base)
    np.testing.assert_allclose(layer.delta(weight, 2.0), expected, rtol=1e-5, atol=2e-6)


def test_dora_leaves_a_row_of_zeros_at_zero(tmp_path: Path) -> None:
    layer = make_layer(tmp_path, LINEAR, {**low_rank(LINEAR), "dora_scale": (12, 1)})
    layer.base[4] = 0
    layer.values["lora_up.weight"][4] = 0
    stored = store(tmp_path / "zeros.safetensors", layer.values)
    delta = Layer(layer.base, layer.values, stored).delta(1.0)
    assert np.isfinite(delta).all()
    assert not delta[4].any()


@pytest.mark.parametrize("flag", [torch.tensor(1), torch.tensor(True), torch.tensor([1.0]).half()])
def test_ia3_takes_any_kind_of_flag(tmp_path: Path, flag: torch.Tensor) -> None:
    layer = make_layer(tmp_path, CONVOLUTION, {"weight": (1, 8, 1, 1)})
    stored = store(tmp_path / "flagged.safetensors", {**layer.values, "on_input": flag})
    delta = Layer(layer.base, layer.values, stored).delta(-0.5)
    expected = -0.5 * layer.base.double().numpy() * layer["weight"]
    np.testing.assert_allclose(delta, expected, rtol=1e-6)


def test_a_linear_lora_of_a_1x1_convolution(tmp_path: Path) -> None:
    layer = make_layer(tmp_path, (12, 8, 1, 1), low_rank(LINEAR))
    expected = 0.5 * product(layer)[:, :, None, None]
    np.testing.assert_allclose(layer.delta(0.5), expected, rtol=1e-5, atol=1e-6)


def test_a_part_of_a_wider_tensor_is_added_to(tmp_path: Path) -> None:
    """As in an inpainting model, whose first convolution has more input channels."""
    layer = make_layer(tmp_path, CONVOLUTION, low_rank(CONVOLUTION))
    difference = fit_weight(layer.stored, 6.0, CONVOLUTION)
    assert difference is not None
    wide = torch.ones(12, 11, 3, 3)
    part = wide[:, :8]
    difference.add_to(part, layer.base, lambda tensor: load_tensor(tensor).float(), 0.5)
    np.testing.assert_allclose(wide[:, :8].double(), 1 + product(layer), rtol=1e-5, atol=1e-6)
    assert (wide[:, 8:] == 1).all()


@pytest.mark.parametrize(("alpha", "factor"), [(None, 1.0), (1.0, 1 / 3), (6.0, 2.0)])
def test_alpha_and_its_absence(tmp_path: Path, alpha: float | None, factor: float) -> None:
    """Without an alpha the scale is 1, in every kind that has a rank."""
    lora = make_layer(tmp_path, LINEAR, low_rank(LINEAR), seed=1)
    np.testing.assert_allclose(lora.delta(0.5, alpha), 0.5 * factor * product(lora), rtol=1e-4)
    factors = {"hada_w1_a": (12, 3), "hada_w1_b": (3, 8), "hada_w2_a": (12, 3), "hada_w2_b": (3, 8)}
    loha = make_layer(tmp_path, LINEAR, dict(factors), seed=2)
    first, second = (loha[f"hada_w{i}_a"] @ loha[f"hada_w{i}_b"] for i in (1, 2))
    np.testing.assert_allclose(loha.delta(0.5, alpha), 0.5 * factor * first * second, rtol=1e-4)
    parts: dict[str, Shape] = {"lokr_w1": (3, 2), "lokr_w2_a": (4, 3), "lokr_w2_b": (3, 4)}
    lokr = make_layer(tmp_path, LINEAR, parts, seed=3)
    whole = np.kron(lokr["lokr_w1"], lokr["lokr_w2_a"] @ lokr["lokr_w2_b"])
    np.testing.assert_allclose(lokr.delta(0.5, alpha), 0.5 * factor * whole, rtol=1e-4)


def test_lokr_of_a_1x1_convolution_without_its_kernel(tmp_path: Path) -> None:
    layer = make_layer(tmp_path, (12, 8, 1, 1), {"lokr_w1": (3, 2), "lokr_w2": (4, 4)})
    expected = np.kron(layer["lokr_w1"], layer["lokr_w2"])[:, :, None, None]
    np.testing.assert_allclose(layer.delta(1.0, alpha=7.0), expected, rtol=1e-6)


@pytest.mark.parametrize("role", ["diff_b", "b_norm"])
def test_biases(tmp_path: Path, role: str) -> None:
    stored = make_layer(tmp_path, LINEAR, {role: (12,)}).stored
    assert fit_weight(stored, None, LINEAR) is None
    difference = fit_bias(stored, None, (12,))
    assert difference is not None
    delta = difference.delta(torch.zeros(12), lambda tensor: load_tensor(tensor).float(), -2.0)
    assert torch.equal(delta, load_tensor(stored[role]) * -2)
    assert kind_of(stored) == "bias"
    with pytest.raises(MisfitError, match="has no bias"):
        fit_bias(stored, None, None)


def headers(
    directory: Path, roles: dict[str, Shape], dtype: str = "F32"
) -> dict[str, StoredTensor]:
    """Tensors whose values are nowhere, so that only their headers can be looked at."""
    some = store(directory / "some.safetensors", {"some": torch.zeros(1)})["some"]
    nowhere = replace(some, file=directory / "nowhere")
    return {
        role: replace(nowhere, name=role, dtype=dtype, shape=shape) for role, shape in roles.items()
    }


HUGE = 1 << 40

MISFITS: dict[str, tuple[Shape, dict[str, Shape]]] = {
    "LoRA of another width": (LINEAR, {**low_rank(LINEAR), "lora_down.weight": (3, 9)}),
    "rank 0": (LINEAR, {"lora_down.weight": (0, 8), "lora_up.weight": (12, 0)}),
    "an empty factor of enormous length": (
        LINEAR,
        {"lora_down.weight": (HUGE, 0), "lora_up.weight": (12, 0)},
    ),
    "enormous outputs": (LINEAR, {"lora_down.weight": (0, 8), "lora_up.weight": (HUGE, 0)}),
    "a Tucker core of another rank": (
        CONVOLUTION,
        {
            "lora_down.weight": (3, 8, 1, 1),
            "lora_mid.weight": (3, 4, 3, 3),
            "lora_up.weight": (12, 3, 1, 1),
        },
    ),
    "a Tucker core of another kernel": (
        CONVOLUTION,
        {
            "lora_down.weight": (3, 8, 1, 1),
            "lora_mid.weight": (3, 3, 1, 9),
            "lora_up.weight": (12, 3, 1, 1),
        },
    ),
    "LoHa of two ranks": (
        LINEAR,
        {"hada_w1_a": (12, 3), "hada_w1_b": (3, 8), "hada_w2_a": (12, 2), "hada_w2_b": (2, 8)},
    ),
    "LoHa for a norm": (
        (12,),
        {"hada_w1_a": (12, 3), "hada_w1_b": (3, 8), "hada_w2_a": (12, 3), "hada_w2_b": (3, 8)},
    ),
    "LoKr that does not divide": (LINEAR, {"lokr_w1": (5, 2), "lokr_w2": (4, 4)}),
    "LoKr with a larger product": (LINEAR, {"lokr_w1": (3, 2), "lokr_w2": (40, 4)}),
    "LoKr with an empty factor": (LINEAR, {"lokr_w1": (0, 2), "lokr_w2": (4, 4)}),
    "LoKr with an enormous empty factor": (LINEAR, {"lokr_w1": (3, 2), "lokr_w2": (HUGE, 0)}),
    "LoKr whose parts do not fit": (
        LINEAR,
        {"lokr_w1": (3, 2), "lokr_w2_a": (4, 2), "lokr_w2_b": (3, 4)},
    ),
    "LoKr of two ranks": (
        LINEAR,
        {"lokr_w1_a": (3, 1), "lokr_w1_b": (1, 2), "lokr_w2_a": (4, 2), "lokr_w2_b": (2, 4)},
    ),
    "LoKr with a core of another kernel": (
        CONVOLUTION,
        {"lokr_w1": (3, 2), "lokr_w2_a": (2, 4), "lokr_w2_b": (2, 4), "lokr_t2": (2, 2, 1, 9)},
    ),
    "LoKr that is whole and in parts": (
        LINEAR,
        {"lokr_w1": (3, 2), "lokr_w2": (4, 4), "lokr_w2_a": (4, 1)},
    ),
    "a difference in another shape": (LINEAR, {"diff": (8, 12)}),
    "a norm's for a layer": (LINEAR, {"w_norm": (12,)}),
    "IA3 of another width": (LINEAR, {"weight": (8,), "on_input": ()}),
    "DoRA of another width": (LINEAR, {**low_rank(LINEAR), "dora_scale": (8, 1)}),
    "DoRA with two sets of lengths": (
        LINEAR,
        {**low_rank(LINEAR), "dora_scale": (12, 1), "lora_magnitude_vector": (12,)},
    ),
    "PEFT's DoRA with lengths for the inputs": (
        LINEAR,
        {**low_rank(LINEAR), "lora_magnitude_vector": (8,)},
    ),
    "two algebras": (LINEAR, {**low_rank(LINEAR), "diff": LINEAR}),
    "scalars": (LINEAR, {"lora_down.weight": (), "lora_up.weight": ()}),
    "LoHa of scalars": (
        LINEAR,
        dict.fromkeys(("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), ()),
    ),
    "LoKr of scalars": (LINEAR, {"lokr_w1": (), "lokr_w2_a": (), "lokr_w2_b": ()}),
}


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_is_refused_before_a_value_is_read(tmp_path: Path, case: str) -> None:
    shape, roles = MISFITS[case]
    stored = headers(tmp_path, roles)
    if "on_input" in roles:
        stored |= store(tmp_path / "flag.safetensors", {"on_input": torch.tensor(0)})
    with pytest.raises(MisfitError):
        fit_weight(stored, None, shape)
    kind_of(stored)
    rank_of(stored)


@pytest.mark.parametrize(
    ("roles", "missing"),
    [
        ({"lora_up.weight": (12, 3)}, "no lora_down.weight"),
        ({"hada_w1_a": (12, 3), "hada_w1_b": (3, 8), "hada_w2_a": (12, 3)}, "no hada_w2_b"),
        ({"hada_t1": (3, 3, 3, 3)}, "no hada_w1_a and no hada_w1_b"),
        ({"lokr_w1": (3, 2)}, "no lokr_w2"),
        ({"lokr_w1": (3, 2), "lokr_w2_a": (4, 2)}, "no lokr_w2_b"),
        ({"weight": (8,)}, "no on_input"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, roles: dict[str, Shape], missing: str) -> None:
    with pytest.raises(IncompleteError, match=missing):
        fit_weight(headers(tmp_path, roles), None, LINEAR)


def test_integers_are_no_factors(tmp_path: Path) -> None:
    with pytest.raises(MisfitError, match="of dtype I64, not a float"):
        fit_weight(headers(tmp_path, low_rank(LINEAR), "I64"), None, LINEAR)
