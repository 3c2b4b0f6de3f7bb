"""OpenVINO reports to nobody, and enlarges and convolves in one step where that is the same.

The oracles are torch for the kernel and ONNX Runtime's CPU provider for whole graphs. These compute
with small whole numbers, which bfloat16 holds exactly.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional as F

from engines.backends.openvino import OpenVinoBackend
from engines.backends.openvino_library import import_library
from engines.bundle import Bundle
from engines.manifest import ComponentSpec, FileEntry, Latents, Manifest, TensorSpec

openvino = import_library()
upsampling = pytest.importorskip("engines.backends.openvino_upsampling")

TAKEN, MADE = 40, 3
"""Channels of the picture, more than are worked on at a time, and of what is made of it."""

DOUBLES: Mapping[str, Any] = {
    "mode": "nearest",
    "coordinate_transformation_mode": "asymmetric",
    "nearest_mode": "floor",
}

PROGRAM = """
import importlib.util
import sys

def report(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.fork"):
        print(event, arguments)

sys.addaudithook(report)
from engines.backends import openvino_session
assert "CPU" in openvino_session.openvino.Core().available_devices
print(*[name for name in sys.modules if name.startswith(("openvino_telemetry", "openvino.tools"))])
assert importlib.util.find_spec("openvino.tools.ovc"), "whoever wants the tools can import them"
"""


def test_nothing_is_reported_to_anyone(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, check=True, capture_output=True, text=True
    )
    assert not done.stdout.strip()
    assert not list(tmp_path.iterdir())


def whole_numbers(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).integers(-1, 2, shape).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_kernel_does_what_both_steps_do(dtype: type[np.floating[Any]]) -> None:
    weights = np.random.default_rng(1).normal(size=(MADE, TAKEN, 3, 3)).astype(dtype)
    kernel = upsampling.merged_kernel(weights)
    assert kernel.dtype == dtype
    picture = torch.from_numpy(np.random.default_rng(2).normal(size=(2, TAKEN, 5, 7))).float()
    enlarged = F.interpolate(picture, scale_factor=2.0, mode="nearest")
    wanted = F.conv2d(enlarged, torch.from_numpy(weights).float(), padding=1)
    found = F.conv_transpose2d(picture, torch.from_numpy(kernel).float(), stride=2, padding=1)
    rounding = 3e-2 if dtype == np.float16 else 1e-4  # 160 products of rounded sums
    torch.testing.assert_close(found, wanted, rtol=0, atol=rounding)


def write_graph(
    path: Path,
    resize: Mapping[str, Any] = DOUBLES,
    factor: float = 2,
    sizes: tuple[int, int] | None = None,
    kernel: int = 3,
    twice: bool = False,
    **convolution: Any,
) -> Bundle:
    """A bundle whose UNet enlarges a picture, convolves it and adds a bias."""
    weights: dict[str, NDArray[Any]] = {
        "weight": whole_numbers(MADE, TAKEN, kernel, kernel),
        "bias": whole_numbers(MADE),
        "scales": np.array([1, 1, factor, factor], np.float32),
        "sizes": np.array([1, TAKEN, *(sizes or ())], np.int64),
    }
    by = ["scales"] if sizes is None else ["", "sizes"]
    nodes = [
        helper.make_node("Resize", ["sample", "", *by], ["enlarged"], **resize),
        helper.make_node(
            "Conv", ["enlarged", "weight", "bias"], ["made"], **{"pads": [1] * 4, **convolution}
        ),
        helper.make_node("ReduceMax", ["enlarged"], ["most"]),
        helper.make_node("Add", ["made", "most" if twice else "made"], ["out_sample"]),
    ]
    shape: tuple[int | str, ...] = ("batch", TAKEN, "height", "width")
    graph = helper.make_graph(
        nodes if twice else [node for node in nodes if node.op_type != "ReduceMax"],
        "upsampling",
        [helper.make_tensor_value_info("sample", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("out_sample", TensorProto.FLOAT, ["b", MADE, "h", "w"])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    (path / "unet").mkdir(parents=True)
    onnx.save(model, path / "unet" / "model.onnx")
    spec = ComponentSpec(
        "unet/model.onnx",
        "float32",
        inputs=(TensorSpec("sample", "float32", shape),),
        outputs=(TensorSpec("out_sample", "float32", ("b", MADE, "h", "w")),),
    )
    files = {"unet/model.onnx": FileEntry(1, "0" * 64)}
    manifest = Manifest("tiny", "0", {}, Latents(TAKEN, 8, 1.0), {"unet": spec}, files=files)
    return Bundle(path, manifest)


def merged(bundle: Bundle, shape: tuple[int, ...]) -> int:
    model = openvino.Core().read_model(bundle.graph("unet"))
    model.reshape({"sample": list(shape)})
    return int(upsampling.merge_upsampling(model))


def same_numbers(bundle: Bundle, shape: tuple[int, ...]) -> None:
    picture = whole_numbers(*shape, seed=1)
    session = onnxruntime.InferenceSession(bundle.graph("unet"))
    (wanted,) = session.run(None, {"sample": picture})
    assert np.ptp(wanted) > 10
    with OpenVinoBackend().open_session(bundle, "unet") as ours:
        np.testing.assert_array_equal(ours.run({"sample": picture})["out_sample"], wanted)


@pytest.mark.parametrize("shape", [(1, TAKEN, 6, 4), (1, TAKEN, 1, 1), (2, TAKEN, 3, 7)])
def test_doubling_is_merged(tmp_path: Path, shape: tuple[int, ...]) -> None:
    bundle = write_graph(tmp_path)
    assert merged(bundle, shape) == 1
    same_numbers(bundle, shape)


def test_doubling_to_a_size_is_merged(tmp_path: Path) -> None:
    """The UNet enlarges to the size that a layer on its way down had."""
    bundle = write_graph(tmp_path, sizes=(12, 8))
    assert merged(bundle, (1, TAKEN, 6, 4)) == 1
    same_numbers(bundle, (1, TAKEN, 6, 4))


@pytest.mark.parametrize(
    "other",
    [
        {"sizes": (11, 8)},
        {"sizes": (12, 7)},
        {"factor": 3},
        {"resize": {**DOUBLES, "nearest_mode": "ceil"}},
        {"resize": {**DOUBLES, "coordinate_transformation_mode": "half_pixel"}},
        {"kernel": 5, "pads": [2] * 4},
        {"pads": [0] * 4},
        {"pads": [0, 0, 1, 1]},
        {"strides": [2, 2]},
        {"dilations": [2, 2]},
        {"twice": True},
    ],
    ids=str,
)
def test_anything_else_stays_as_it_is(tmp_path: Path, other: dict[str, Any]) -> None:
    bundle = write_graph(tmp_path, **other)
    assert merged(bundle, (1, TAKEN, 6, 4)) == 0
    same_numbers(bundle, (1, TAKEN, 6, 4))


def test_open_sizes_stay_as_they_are(tmp_path: Path) -> None:
    model = openvino.Core().read_model(write_graph(tmp_path).graph("unet"))
    assert upsampling.merge_upsampling(model) == 0
