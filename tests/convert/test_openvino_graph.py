"""The UNet's graph as OpenVINO runs it fastest: the same numbers, from the same weights.

The oracle is the graph beside it, which `convert verify` compares with torch.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from convert.export import run_export
from convert.export_plan import plan_export
from convert.openvino_graph import write_openvino_graph
from engines import layout
from engines.backend import choose_backend
from engines.bundle import Bundle, open_bundle
from engines.errors import BackendError, BundleError, InternalError
from tests.convert.tiny_model import write_tiny_model

SIZES = [
    {"batch": 1, "height": 8, "width": 8, "tokens": 77},
    {"batch": 3, "height": 5, "width": 9, "tokens": 154},
]


@pytest.fixture(scope="module")
def wide_model(demo_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with heads 40 wide, as Stable Diffusion 1.5 has them at its finest."""
    target = tmp_path_factory.mktemp("wide") / "wide"
    return write_tiny_model(demo_base, target, width=80)


def export(model: Path, out: Path, **options: Any) -> Bundle:
    run_export(plan_export(model, **options), out, force=False, progress=False)
    return open_bundle(out)


@pytest.fixture(scope="module", params=["fp16", "fp32"])
def wide_bundle(
    request: pytest.FixtureRequest, wide_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    return export(wide_model, tmp_path_factory.mktemp(request.param) / "wide", dtype=request.param)


def run_unet(graph: Path, sizes: dict[str, int], seed: int) -> np.ndarray[Any, Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])
    random = np.random.default_rng(seed)
    feeds = {}
    for tensor in session.get_inputs():
        shape = [sizes.get(axis, axis) for axis in tensor.shape]
        dtype = np.float16 if tensor.type == "tensor(float16)" else np.float32
        feeds[tensor.name] = random.normal(size=shape).astype(dtype)
    (output,) = session.run(None, feeds)
    return np.asarray(output, np.float64)


def same_numbers(bundle: Bundle, sizes: dict[str, int]) -> None:
    wanted = run_unet(bundle.graph(layout.UNET), sizes, seed=1)
    found = run_unet(bundle.openvino_graph(layout.UNET), sizes, seed=1)
    rounding = 2e-3 if bundle.component(layout.UNET).dtype == "float16" else 1e-5
    assert np.abs(found - wanted).max() <= rounding * np.abs(wanted).max()
    assert np.abs(run_unet(bundle.graph(layout.UNET), sizes, seed=2) - wanted).max() > 0.1


@pytest.mark.parametrize("sizes", SIZES)
def test_arrangement_computes_the_same(wide_bundle: Bundle, sizes: dict[str, int]) -> None:
    same_numbers(wide_bundle, sizes)


def test_arrangement_of_fixed_sizes_computes_the_same(wide_model: Path, tmp_path: Path) -> None:
    same_numbers(export(wide_model, tmp_path / "fixed", dtype="fp32", static="16x24x2"), {})


def test_demo_model_computes_the_same(demo_bundle_fp32: Path) -> None:
    same_numbers(open_bundle(demo_bundle_fp32), SIZES[1])


def weights(graph: Path) -> dict[str, onnx.TensorProto]:
    return {t.name: t for t in onnx.load(graph, load_external_data=False).graph.initializer}


def operators(graph: Path) -> set[str]:
    return {node.op_type for node in onnx.load(graph, load_external_data=False).graph.node}


def head_widths(graph: Path) -> set[int]:
    """How wide each of the two heads of queries and keys is."""
    names = [name for name in weights(graph) if ".to_q." in name or ".to_k." in name]
    assert len(names) > 3
    return {weights(graph)[name].dims[1] // 2 for name in names}


def test_heads_are_whole_blocks_and_nothing_is_split(wide_bundle: Bundle) -> None:
    plain, arranged = wide_bundle.graph(layout.UNET), wide_bundle.openvino_graph(layout.UNET)
    assert (head_widths(plain), head_widths(arranged)) == ({40}, {64})
    assert operators(plain) - operators(arranged) == {"Split"}


def test_weights_that_stay_are_shared(wide_bundle: Bundle) -> None:
    arranged = weights(wide_bundle.openvino_graph(layout.UNET))
    plain = weights(wide_bundle.graph(layout.UNET))
    own = set()
    for name, tensor in arranged.items():
        if name in plain:
            assert tensor == plain[name]
        elif tensor.data_location == onnx.TensorProto.EXTERNAL:
            assert {e.value for e in tensor.external_data if e.key == "location"} == {
                "openvino.onnx_data"
            }
            own.add(name)
    assert own
    assert all(name.endswith((".wide", ".half0", ".half1")) for name in own)
    entry = wide_bundle.manifest.files["unet/openvino.onnx_data"]
    assert entry.size < wide_bundle.manifest.files["unet/model.onnx_data"].size


def test_another_graph_than_the_exporters_is_a_fault(tiny_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle / "unet", tmp_path / "unet")
    graph = tmp_path / "unet" / "model.onnx"
    model = onnx.load(graph, load_external_data=False)
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    product = next(node for node in model.graph.node if softmax.input[0] in node.output)
    product.input[0], product.input[1] = product.input[1], product.input[0]
    onnx.save(model, graph)
    with pytest.raises(InternalError, match="is not where the exporter puts it"):
        write_openvino_graph(graph)


@pytest.mark.parametrize(("amx", "file"), [(True, "openvino"), (False, "model")])
def test_openvino_runs_the_arrangement_on_amx(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, amx: bool, file: str
) -> None:
    pytest.importorskip("engines.backends.openvino_session", reason="installed on x86-64 alone")
    monkeypatch.setattr("engines.backends.openvino.has_amx", lambda: amx)
    bundle = open_bundle(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    graph = bundle.path / "unet" / f"{file}.onnx"
    graph.write_bytes(bytes(graph.stat().st_size))
    backend = choose_backend("openvino", bundle).backend
    with backend.open_session(bundle, layout.UNET) as session:
        preparation = session.preparation({"height": 8, "width": 8, "tokens": 77})
        assert preparation is not None
        with pytest.raises(BackendError, match=rf"cannot load .*unet/{file}\.onnx"):
            preparation()


def test_a_missing_arrangement_is_a_damaged_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    (copy / "unet" / "openvino.onnx").unlink()
    with pytest.raises(BundleError, match=r"unet/openvino\.onnx is missing"):
        open_bundle(copy)
