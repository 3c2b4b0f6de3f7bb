"""A bundle of graphs of a few nodes, with a UNet's tensors, of which every one matters."""

from pathlib import Path
from typing import Any

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


DECODER = ComponentSpec(
    layout.graph_file(layout.VAE_DECODER),
    "float32",
    inputs=(TensorSpec("latent_sample", "float32", ("batch", 4, "height", "width")),),
    outputs=(TensorSpec("sample", "float32", ("batch", 4, "height", "width")),),
)


def tiny_bundle(path: Path, *, decoder: bool = False) -> Bundle:
    """Write a bundle whose UNet is sample * timestep + the mean of the text.

    Args:
        path: where.
        decoder: whether it has a VAE decoder too, which changes nothing.
    """
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
    components = {layout.UNET: SPEC}
    _write(path / SPEC.graph, SPEC, nodes, constants)
    if decoder:
        components[layout.VAE_DECODER] = DECODER
        same = helper.make_node("Identity", ["latent_sample"], ["sample"])
        _write(path / DECODER.graph, DECODER, [same], [])
    files = {
        spec.graph: FileEntry((path / spec.graph).stat().st_size, sha256_file(path / spec.graph))
        for spec in components.values()
    }
    return Bundle(path, Manifest("tiny", "0", {}, Latents(4, 8, 1.0), components, files=files))


def _write(file: Path, spec: ComponentSpec, nodes: list[Any], constants: list[Any]) -> None:
    tensors = {
        each.name: helper.make_tensor_value_info(each.name, TensorProto.FLOAT, list(each.shape))
        for each in (*spec.inputs, *spec.outputs)
    }
    inputs, outputs = (
        [tensors[each.name] for each in ends] for ends in (spec.inputs, spec.outputs)
    )
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    file.parent.mkdir(parents=True)
    onnx.save(model, file)


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
