"""Counting what a graph costs, against torch's own counter and against hand-counted nodes."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from onnx import TensorProto, helper
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextModel

from benchmarks.graph_cost import GraphCost, measure_graph
from engines import layout
from engines.bundle import Bundle, open_bundle


def _count(run: Callable[[], object]) -> int:
    """Torch's count of a model on its device `meta`; its fused attention on CPUs is not counted."""
    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.device("meta"):
        run()
    return int(counter.get_total_flops())


@pytest.fixture(scope="module")
def bundle(demo_bundle: Path) -> Bundle:
    return open_bundle(demo_bundle)


@pytest.mark.parametrize(("batch", "side", "chunks"), [(2, 16, 1), (3, 8, 2)])
def test_unet_as_torch_counts_it(
    bundle: Bundle, fused_demo: Path, batch: int, side: int, chunks: int
) -> None:
    unet = UNet2DConditionModel.from_pretrained(fused_demo, subfolder="unet").to("meta")
    expected = _count(
        lambda: unet(
            torch.zeros(batch, 4, side, side, dtype=unet.dtype),
            torch.zeros(batch),
            torch.zeros(batch, 77 * chunks, unet.config.cross_attention_dim, dtype=unet.dtype),
        )
    )
    axes = {"batch": batch, "height": side, "width": side, "tokens": 77 * chunks}
    assert measure_graph(bundle.graph(layout.UNET), axes).flops == expected


def test_vae_and_text_encoder_as_torch_counts_them(bundle: Bundle, fused_demo: Path) -> None:
    vae = AutoencoderKL.from_pretrained(fused_demo, subfolder="vae").to("meta")
    text = CLIPTextModel.from_pretrained(fused_demo / "text_encoder").to("meta")
    scale = bundle.manifest.latents.downscale
    decoded = _count(lambda: vae.decode(torch.zeros(2, 4, 8, 16, dtype=vae.dtype)))
    cost = measure_graph(bundle.graph(layout.VAE_DECODER), {"batch": 2, "height": 8, "width": 16})
    assert cost.flops == decoded
    pixels = (1, 3, 8 * scale, 16 * scale)
    encoded = _count(lambda: vae.encode(torch.zeros(pixels, dtype=vae.dtype)))
    axes = {"batch": 1, "picture_height": 8 * scale, "picture_width": 16 * scale}
    assert measure_graph(bundle.graph(layout.VAE_ENCODER), axes).flops == encoded
    read = _count(lambda: text(torch.zeros(2, 77, dtype=torch.int64)))
    assert measure_graph(bundle.graph(layout.TEXT_ENCODER), {"batch": 2}).flops == read


def test_weights_are_counted_once(bundle: Bundle) -> None:
    cost = measure_graph(
        bundle.graph(layout.UNET), {"batch": 2, "height": 8, "width": 8, "tokens": 77}
    )
    twice = measure_graph(
        bundle.graph(layout.UNET), {"batch": 4, "height": 8, "width": 8, "tokens": 77}
    )
    on_disk = bundle.weights_size(layout.UNET)
    assert cost.weight_bytes == twice.weight_bytes
    assert 0.9 * on_disk < cost.weight_bytes <= on_disk
    assert twice.flops == 2 * cost.flops


def test_nodes_by_hand(tmp_path: Path) -> None:
    """A grouped convolution, a product of a transposed matrix, and a view, in float16."""
    kind = TensorProto.FLOAT16
    weights = [
        helper.make_tensor("kernel", kind, (6, 2, 3, 3), [0.0] * 108),
        helper.make_tensor("matrix", kind, (6, 5), [0.0] * 30),
        helper.make_tensor("shape", TensorProto.INT64, (2,), [6, -1]),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["y"], group=2, pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["y", "shape"], ["z"]),
        helper.make_node("Gemm", ["z", "matrix"], ["out"], transA=1),
    ]
    graph = helper.make_graph(
        nodes,
        "by hand",
        [helper.make_tensor_value_info("x", kind, ["batch", 4, 7, 7])],
        [helper.make_tensor_value_info("out", kind, None)],
        weights,
    )
    path = tmp_path / "model.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    conv = 2 * (1 * 6 * 7 * 7) * (2 * 3 * 3)
    gemm = 2 * (49 * 5) * 6
    moved = 2 * (4 * 49 + 6 * 49) + 2 * (6 * 49 + 49 * 5)
    assert measure_graph(path, {"batch": 1}) == GraphCost(
        flops=conv + gemm,
        weight_bytes=2 * 108 + 2 * 30 + 8 * 2,
        activation_bytes=moved,
    )


def test_an_axis_without_a_size_is_named(bundle: Bundle) -> None:
    with pytest.raises(KeyError, match="tokens"):
        measure_graph(bundle.graph(layout.UNET), {"batch": 2, "height": 8, "width": 8})
