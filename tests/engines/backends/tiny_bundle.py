"""A bundle of one graph of a few nodes with a UNet's tensors, in which every input matters."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines import layout
from engines.bundle import Bundle
from engines.identity import sha256_file
from engines.manifest import ComponentSpec, FileEntry, Latents, Manifest, TensorSpec
from engines.session import Array

WIDTH = 8
SPEC = ComponentSpec(
    layout.graph_file(layout.UNET),
    "float32",
    inputs=(
        TensorSpec("sample", "float32", ("batch", 4, "height", "width")),
        TensorSpec("timestep", "float32", ("batch",)),
        TensorSpec("encoder_hidden_states", "float32", ("batch", "tokens", WIDTH)),
    ),
    outputs=(TensorSpec("out_sample", "float32", ("batch", 4, "height", "width")),),
)


def tiny_bundle(path: Path) -> Bundle:
    """Write the bundle's graph: sample * timestep + the mean of the text."""
    tensors = [
        helper.make_tensor_value_info(each.name, TensorProto.FLOAT, list(each.shape))
        for each in (*SPEC.inputs, *SPEC.outputs)
    ]
    nodes = [
        helper.make_node("Unsqueeze", ["timestep", "axes"], ["factor"]),
        helper.make_node("Mul", ["sample", "factor"], ["scaled"]),
        helper.make_node("ReduceMean", ["encoder_hidden_states", "last"], ["text"], keepdims=0),
        helper.make_node("Unsqueeze", ["text", "axes"], ["shift"]),
        helper.make_node("Add", ["scaled", "shift"], ["out_sample"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([1, 2, 3]), "axes"),
        numpy_helper.from_array(np.array([1, 2]), "last"),
    ]
    graph = helper.make_graph(nodes, "tiny", tensors[:3], tensors[3:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    file = path / SPEC.graph
    file.parent.mkdir(parents=True)
    onnx.save(model, file)
    files = {SPEC.graph: FileEntry(file.stat().st_size, sha256_file(file))}
    latents = Latents(4, 8, 1.0)
    return Bundle(path, Manifest("tiny", "0", {}, latents, {layout.UNET: SPEC}, files=files))


def feeds(batch: int, height: int, width: int, tokens: int = 77, seed: int = 0) -> dict[str, Array]:
    """Random inputs of these sizes."""
    random = np.random.default_rng(seed)
    shapes = {
        "sample": (batch, 4, height, width),
        "timestep": (batch,),
        "encoder_hidden_states": (batch, tokens, WIDTH),
    }
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def expected(inputs: dict[str, Array]) -> Array:
    """What the graph computes."""
    text = inputs["encoder_hidden_states"].mean(axis=(1, 2))
    result: Array = inputs["sample"] * inputs["timestep"][:, None, None, None]
    result += text[:, None, None, None]
    return result
