"""Bundles that were exported in other ways than the usual one: each runs, and is what was asked.

One bundle of the smallest model has most of it at once, for an export takes a while: the newest
opset, sizes and batch fixed, a text encoder in float32, and a VAE that overflows half precision.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from convert.export import run_export
from convert.export_options import OPSETS
from convert.export_plan import plan_export
from convert.graphs import GRAPHS
from convert.onnx_file import describe_graph, write_graph
from convert.picture_parity import LEAST
from convert.stress import LARGEST, find_overflow, peaks_of_nodes
from convert.trace import trace_graph
from convert.verify import run_verify
from engines import layout
from engines.bundle import Bundle, open_bundle
from engines.weight_map import read_weight_map
from runtime.__main__ import main as runtime
from tests.convert.tiny_model import write_tiny_model

VAE_FILE = "vae/diffusion_pytorch_model.safetensors"
OVERFLOWING = "decoder.conv_in.weight"


@pytest.fixture(scope="module")
def overflowing_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a decoder whose first layer is far above the others.

    The norm after it brings its outputs back, so that in float32 the pictures are as ever.
    """
    copy = shutil.copytree(tiny_model, tmp_path_factory.mktemp("overflowing") / "model")
    tensors = load_file(copy / VAE_FILE)
    tensors[OVERFLOWING] *= 5000
    assert tensors[OVERFLOWING].abs().max() < LARGEST / 10
    save_file(tensors, copy / VAE_FILE, {"format": "pt"})
    return copy


@pytest.fixture(scope="module")
def exported(overflowing_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("variants") / "bundle"
    plan = plan_export(
        overflowing_model, dtype="fp16,text_encoder=fp32", opset=OPSETS[-1], static="72x64x2"
    )
    run_export(plan, out, force=False, progress=False)
    return open_bundle(out)


def test_overflowing_half_of_the_vae_is_float32_and_says_why(exported: Bundle) -> None:
    components = exported.manifest.components
    assert {name: spec.dtype for name, spec in components.items()} == {
        "text_encoder": "float32",
        "unet": "float16",
        "vae_encoder": "float16",
        "vae_decoder": "float32",
    }
    reason = components["vae_decoder"].dtype_reason
    assert reason.startswith("in fp16 Conv")
    assert reason.endswith("on stress inputs, and 65504 is the most")
    assert not any(components[name].dtype_reason for name in components if name != "vae_decoder")
    assert exported.openvino_graph("unet") == exported.graph("unet"), "attention is one operator"
    assert {path.name for path in (exported.path / "vae_decoder").iterdir()} == {
        "config.json",
        "model.onnx",
        "model.onnx_data",
        "weights.json",
    }


def test_dtypes_are_those_of_the_files(exported: Bundle) -> None:
    for name, spec in exported.manifest.components.items():
        graph = onnx.load(exported.graph(name)).graph
        weights = read_weight_map(exported.path / layout.weight_map_file(name)).weights
        stored = {value.data_type for value in graph.initializer if value.name in weights}
        assert stored == {onnx.helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))}


@pytest.mark.parametrize("component", list(layout.COMPONENTS))
def test_sizes_and_opset_are_fixed(exported: Bundle, component: str) -> None:
    onnx.checker.check_model(exported.graph(component), full_check=True)
    model = onnx.load(exported.graph(component), load_external_data=False)
    assert model.opset_import[0].version == OPSETS[-1]
    # 72x64 pixels are 36x32 latents of this VAE.
    sizes = {"batch": 2, "tokens": 77, "height": 32, "width": 36}
    sizes |= {"picture_height": 64, "picture_width": 72}
    spec, declared = exported.component(component), layout.COMPONENTS[component]
    axes = {**declared.inputs, **declared.outputs}
    for tensor in (*spec.inputs, *spec.outputs):
        assert [
            sizes.get(axis, axis) if isinstance(axis, str) else size
            for axis, size in zip(axes[tensor.name], tensor.shape, strict=True)
        ] == list(tensor.shape)
    assert not {"Shape", "Range"} & {node.op_type for node in model.graph.node}
    assert (exported.manifest.defaults.width, exported.manifest.defaults.height) == (72, 64)


def test_it_verifies_with_pictures(
    exported: Bundle, overflowing_model: Path, tmp_path: Path
) -> None:
    copy = open_bundle(Path(shutil.copytree(exported.path, tmp_path / "bundle")))
    manifest, _ = run_verify(copy, overflowing_model, 1, progress=False)
    assert all(f.passed for outputs in manifest.parity.values() for f in outputs)
    (picture,) = manifest.pictures
    assert picture.passed
    assert (picture.width, picture.height) == (72, 64)
    assert picture.least_psnr == LEAST["float16"].psnr


def test_the_runtime_runs_it_at_its_own_size_alone(
    exported: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Path(shutil.copytree(exported.path, tmp_path / "bundle"))
    arguments = ["generate", "a house", "--bundle", str(bundle), "--seed", "1", "--backend", "cpu"]
    arguments += ["--steps", "2", "-q"]
    for name, count in (("one.png", 1), ("three", 3)):
        out = tmp_path / name
        assert runtime([*arguments, "--n", str(count), "--out", str(out)]) == 0, capsys.readouterr()
    (first, *others) = sorted((tmp_path / "three").iterdir())
    assert len(others) == 2
    pixels = [np.asarray(Image.open(path)).astype(int) for path in (tmp_path / "one.png", first)]
    assert pixels[0].shape == (64, 72, 3)
    assert np.abs(pixels[0] - pixels[1]).max() <= 1
    assert runtime([*arguments, "--size", "64x72", "--out", str(tmp_path / "no.png")]) == 1
    error = capsys.readouterr().err
    assert "The size 64x72 is not possible" in error
    assert "the bundle's unet takes 72x64." in error
    long = ["generate", "word " * 90, *arguments[2:], "--out", str(tmp_path / "no.png")]
    assert runtime(long) == 1
    assert "tokens in chunks of 77, and the UNet takes 77 at this size" in capsys.readouterr().err


def test_stress_finds_what_overflows_and_nothing_else(
    overflowing_model: Path, exported: Bundle
) -> None:
    model = plan_export(overflowing_model, dtype="fp16").model
    encoder, decoder = (exported.component(f"vae_{half}") for half in ("encoder", "decoder"))
    path = exported.graph(layout.VAE_ENCODER)
    assert find_overflow(path, encoder, layout.VAE_ENCODER, model) is None
    assert 1 < max(peaks_of_nodes(path, encoder, layout.VAE_ENCODER, model).values()) < LARGEST
    # In float32 it reaches what torch's first layer reaches on the same inputs, and is no fault.
    path = exported.graph(layout.VAE_DECODER)
    peak = max(peaks_of_nodes(path, decoder, layout.VAE_DECODER, model).values())
    assert LARGEST < peak < np.inf


def test_an_inpainting_model_is_verified_with_pictures(demo_base: Path, tmp_path: Path) -> None:
    model = write_tiny_model(demo_base, tmp_path / "inpaint", in_channels=9)
    plan = plan_export(model, dtype="fp32", static="16x16x1")
    run_export(plan, tmp_path / "bundle", force=False, progress=False)
    manifest, _ = run_verify(open_bundle(tmp_path / "bundle"), model, 1, progress=False)
    (picture,) = manifest.pictures
    assert picture.passed
    assert picture.psnr > 80


@pytest.mark.parametrize(
    ("opset", "name"),
    [
        (19, layout.TEXT_ENCODER),
        (20, layout.TEXT_ENCODER),
        (21, layout.VAE_DECODER),
        (22, layout.TEXT_ENCODER),
    ],
)
def test_every_opset_between_computes_the_same(
    tiny_model: Path, tiny_bundle: Path, tmp_path: Path, opset: int, name: str
) -> None:
    component = plan_export(tiny_model, dtype="fp32").model.components[GRAPHS[name].source]
    path = tmp_path / "model.onnx"
    write_graph(trace_graph(name, component, torch.float32, opset), component, torch.float32, path)
    onnx.checker.check_model(path, full_check=True)
    assert onnx.load(path, load_external_data=False).opset_import[0].version == opset
    (tensor,) = describe_graph(path, name, "float32").inputs
    usual = tiny_bundle / layout.graph_file(name)
    shape = [77 if axis == 77 else 4 if axis == 4 else 3 for axis in tensor.shape]
    values = np.random.default_rng(2).integers(0, 700, shape).astype(tensor.dtype)
    expected, found = (_run(graph, {tensor.name: values}) for graph in (usual, path))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def _run(path: Path, feeds: dict[str, Any]) -> Any:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]
