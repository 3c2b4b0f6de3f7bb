"""What TensorRT for RTX, the real one, refuses is one error that names the node or the range."""

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from convert.plans.api import TensorRt
from convert.plans.engine import PlanTask, build_engine
from convert.plans.options import BuildOptions
from engines.errors import BackendError
from engines.plans import Profile, ShapeRange

SQUARE = ("batch", 4, 4)
ROWS: Profile = {"x": ShapeRange((1, 4, 4), (2, 4, 4), (8, 4, 4))}


@pytest.fixture
def library() -> TensorRt:
    gc.collect()  # TensorRT keeps to the first logger as long as a builder of it lives
    return cast(TensorRt, pytest.importorskip("tensorrt_rtx"))


def _graph(
    path: Path,
    node: onnx.NodeProto,
    *,
    inputs: Sequence[str] = ("x",),
    shape: Sequence[str | int] = SQUARE,
    weights: Sequence[onnx.TensorProto] = (),
    opset: int = 18,
) -> Path:
    """A graph of one node in fp16."""
    half = TensorProto.FLOAT16
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info(name, half, shape) for name in inputs],
        [helper.make_tensor_value_info("y", half, None)],
        list(weights),
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("acme", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def _build(
    library: TensorRt,
    graph: Path,
    profiles: Sequence[Profile] = (ROWS,),
    on_progress: Callable[[float, str], None] = lambda done, phase: None,
    **changes: Any,
) -> Path:
    task = PlanTask(
        module="tensorrt_rtx",
        backend="tensorrt-rtx",
        component="unet",
        graph=graph,
        out=graph.with_suffix(".plan"),
        profiles=tuple(profiles),
        options=BuildOptions(),
        **{"rtx_targets": ("sm89",), **changes},
    )
    build_engine(library, task, on_progress, lambda text: None)
    return task.out


def test_what_is_right_is_built(library: TensorRt, tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((4, 4), np.float16), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    told: list[tuple[float, str]] = []
    graph = _graph(tmp_path / "a.onnx", node, weights=[weight])
    plan = _build(library, graph, on_progress=lambda done, phase: told.append((done, phase)))
    assert plan.stat().st_size > 1000
    done = [each for each, _ in told]
    assert done == sorted(done)
    assert 0.5 < done[-1] <= 1
    assert "Building engine" in {phase for _, phase in told}


def test_an_operator_that_is_not_supported(library: TensorRt, tmp_path: Path) -> None:
    node = helper.make_node("Det", ["x"], ["y"], name="the_determinant")
    with pytest.raises(BackendError) as error:
        _build(library, _graph(tmp_path / "a.onnx", node))
    assert str(error.value) == (
        "TensorRT does not support node the_determinant (Det) of the unet: refused in checkDet. "
        "Export the bundle again, with the default --opset."
    )


def test_an_operator_of_another_domain(library: TensorRt, tmp_path: Path) -> None:
    node = helper.make_node("Foo", ["x"], ["y"], name="the_foo", domain="acme")
    with pytest.raises(BackendError, match=r"node the_foo \(Foo\) of the unet: .*Plugin not found"):
        _build(library, _graph(tmp_path / "a.onnx", node))


@pytest.mark.parametrize("operator", ["Add", "MatMul"])
def test_inputs_of_two_dtypes(library: TensorRt, tmp_path: Path, operator: str) -> None:
    weight = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    node = helper.make_node(operator, ["x", "w"], ["y"], name="the_node")
    with pytest.raises(BackendError) as error:
        _build(library, _graph(tmp_path / "a.onnx", node, weights=[weight]))
    message = str(error.value)
    assert message.startswith(
        f"TensorRT refuses the unet at node the_node ({operator}), whose inputs differ in dtype: "
    )
    assert "Half and" in message or "of type Half" in message
    assert message.endswith("Export the bundle again in one dtype.")
    assert "_src" not in message
    assert "Cuda" not in message


def test_a_kernel_that_is_missing(library: TensorRt, tmp_path: Path) -> None:
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"], name="the_attention")
    shape = ("batch", 2, "length", 8)
    graph = _graph(tmp_path / "a.onnx", node, inputs="qkv", shape=shape, opset=23)
    ranges = ShapeRange((1, 2, 16, 8), (1, 2, 16, 8), (2, 2, 64, 8))
    with pytest.raises(BackendError) as error:
        _build(library, graph, [dict.fromkeys("qkv", ranges)])
    message = str(error.value)
    assert message.startswith("TensorRT cannot build the unet for q 1x2x16x8..2x2x64x8, ")
    assert "Attention operation was not supported by a dedicated kernel" in message
    assert message.endswith("or export the bundle again with the default --opset.")


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        (ShapeRange((4, 4, 4), (2, 4, 4), (8, 4, 4)), "MIN<=OPT<=MAX"),
        (ShapeRange((1, 5, 4), (2, 5, 4), (8, 5, 4)), "profile has min=5"),
        (ShapeRange((1, 4), (2, 4), (8, 4)), "profile 0 has 2 dimensions"),
    ],
)
def test_a_range_that_is_not_possible(
    library: TensorRt, tmp_path: Path, shapes: ShapeRange, reason: str
) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], name="the_relu")
    with pytest.raises(BackendError) as error:
        _build(library, _graph(tmp_path / "a.onnx", node), [{"x": shapes}])
    message = str(error.value)
    ends = "..".join("x".join(map(str, end)) for end in (shapes.min, shapes.max))
    assert message.startswith(f"TensorRT refuses the ranges of the unet, x {ends}: ")
    assert reason in message
    assert message.endswith("Change --size, --batch or --chunks.")


def test_an_input_without_a_range(library: TensorRt, tmp_path: Path) -> None:
    node = helper.make_node("Add", ["x", "z"], ["y"], name="the_sum")
    graph = _graph(tmp_path / "a.onnx", node, inputs=("x", "z"))
    with pytest.raises(BackendError, match=r"refuses the ranges of the unet, .* z is missing"):
        _build(library, graph)


def test_weights_that_are_not_there(library: TensorRt, tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((4, 4), np.float16), "the_weight")
    node = helper.make_node("MatMul", ["x", "the_weight"], ["y"], name="product")
    graph = _graph(tmp_path / "a.onnx", node, weights=[weight])
    model = onnx.load(graph)
    onnx.save(model, graph, save_as_external_data=True, location="weights", size_threshold=0)
    (tmp_path / "weights").unlink()
    with pytest.raises(
        BackendError, match=r"cannot read the unet: .*the_weight.* Export the bundle"
    ):
        _build(library, graph)


def test_half_a_graph(library: TensorRt, tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], name="the_relu")
    graph = _graph(tmp_path / "a.onnx", node)
    graph.write_bytes(graph.read_bytes()[:-20])
    with pytest.raises(BackendError, match=r"cannot read the unet: .* Export the bundle again"):
        _build(library, graph)


def test_a_target_that_this_version_lacks(library: TensorRt, tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], name="the_relu")
    graph = _graph(tmp_path / "a.onnx", node)
    with pytest.raises(BackendError, match=r"RTX 1\.\S+ does not build for sm90. Leave it out"):
        _build(library, graph, rtx_targets=("sm89", "sm90"))


def test_a_full_disk(library: TensorRt, tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], name="the_relu")
    graph = _graph(tmp_path / "a.onnx", node)
    graph.with_suffix(".plan").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        _build(library, graph)


@pytest.mark.parametrize(
    "options",
    [
        BuildOptions(weight_streaming=True),
        BuildOptions(workspace=64 << 20),
        BuildOptions(optimization_level=0),
        BuildOptions(batch_invariant=True),
    ],
)
def test_options_that_tensorrt_for_rtx_takes(
    library: TensorRt, tmp_path: Path, options: BuildOptions
) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], name="the_relu")
    warnings: list[str] = []
    task = PlanTask(
        *("tensorrt_rtx", "tensorrt-rtx", "unet", _graph(tmp_path / "a.onnx", node)),
        *(tmp_path / "a.plan", (ROWS,), options, ("sm86", "sm89")),
    )
    build_engine(library, task, lambda done, phase: None, warnings.append)
    assert task.out.stat().st_size > 1000
    assert warnings == []
