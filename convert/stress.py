"""Whether a half-precision graph stays finite on inputs at the edge of what it can meet.

A latent that sampling throws far out, or a picture of hard edges, must not overflow the VAE.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime
import torch

from convert.export_plan import latent_downscale, scaling_factor
from convert.model import VAE, BaseModel
from engines import layout
from engines.axes import fixed_axes
from engines.manifest import ComponentSpec
from engines.session import Array

LARGEST: Final = float(np.finfo(np.float16).max)

_SEED: Final = 8
_SIDE: Final = 8
_SIGMAS: Final = (1.0, 2.0, 4.0, 8.0)
_PEAKS: Final = "peaks"
_ONE: Final = "peaks/one"
_FLOATS: Final = (onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT)


def find_overflow(path: Path, spec: ComponentSpec, name: str, model: BaseModel) -> str | None:
    """What overflows float16 inside a graph on stress inputs; None where nothing does.

    Every value between two nodes is looked at, since ONNX Runtime computes in float32 where it has
    no kernel for halves, and an engine that has one would meet infinity. The first that is too
    large is named, as what follows is so because of it.

    Args:
        path: the graph, with its weights beside it.
        spec: its entry in the manifest.
        name: its component, one of `STRESSED`.
        model: what it was exported from.
    """
    peaks = peaks_of_nodes(path, spec, name, model)
    overflows = ((node, peak) for node, peak in peaks.items() if peak > LARGEST)
    node, peak = next(overflows, ("", 0.0))
    if not node:
        return None
    found = f"{peak:.3g}" if math.isfinite(peak) else "infinity"
    return f"{node} reaches {found} on stress inputs, and {LARGEST:.0f} is the most"


def peaks_of_nodes(
    path: Path, spec: ComponentSpec, name: str, model: BaseModel
) -> dict[str, float]:
    """The largest magnitude at each node of a graph, over all stress inputs.

    The arguments are those of `find_overflow`.
    """
    fixed = fixed_axes(name, spec)
    inputs = STRESSED[name](model, fixed.get("height", _SIDE), fixed.get("width", _SIDE)).numpy()
    (tensor,) = spec.inputs
    gauged = path.with_name(f"gauged-{path.name}")
    try:
        nodes = _write_gauged(path, gauged)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(gauged, options, ["CPUExecutionProvider"])
        peaks = [
            session.run([_PEAKS], {tensor.name: batch.astype(tensor.dtype)})[0]
            for batch in _batches(inputs, fixed.get("batch", 1))
        ]
    finally:
        gauged.unlink(missing_ok=True)
    largest = np.nan_to_num(np.stack(peaks), nan=math.inf, posinf=math.inf).max(axis=0)
    return dict(zip(nodes, largest.tolist(), strict=True))


def stress_latents(model: BaseModel, height: int, width: int) -> torch.Tensor:
    """Latents [N, C, h, w] in the VAE's scale: normal up to 8 sigma, constants, a checkerboard."""
    config = model.components[VAE].config
    shape = (config["latent_channels"], height, width)
    generator = torch.Generator().manual_seed(_SEED)
    normal = [torch.randn(shape, generator=generator) * sigma for sigma in _SIGMAS]
    flat = [torch.full(shape, sign * sigma) for sigma in _SIGMAS[2:] for sign in (1.0, -1.0)]
    checkered = _checkerboard(shape) * _SIGMAS[-1]
    return torch.stack([*normal, *flat, checkered]) / scaling_factor(config)


def stress_pictures(model: BaseModel, height: int, width: int) -> torch.Tensor:
    """Pictures [N, 3, H, W]: noise, black and white noise, black, grey, white, a checkerboard.

    `height` and `width` are those of their latents.
    """
    scale = latent_downscale(model.components[VAE].config)
    shape = (3, height * scale, width * scale)
    generator = torch.Generator().manual_seed(_SEED)
    noise = torch.rand(shape, generator=generator) * 2 - 1
    flat = [torch.full(shape, level) for level in (-1.0, 0.0, 1.0)]
    return torch.stack([noise, noise.sign(), *flat, _checkerboard(shape)])


STRESSED: Final[Mapping[str, Callable[[BaseModel, int, int], torch.Tensor]]] = {
    layout.VAE_ENCODER: stress_pictures,
    layout.VAE_DECODER: stress_latents,
}
"""The components that are looked at, and what makes their inputs."""


def _checkerboard(shape: tuple[int, int, int]) -> torch.Tensor:
    rows, columns = torch.arange(shape[1])[:, None], torch.arange(shape[2])[None]
    return (1.0 - 2.0 * ((rows + columns) % 2)).expand(shape)


def _batches(inputs: Array, size: int) -> Iterator[Array]:
    """The inputs in batches of one size; the last one is filled up from the beginning."""
    for begin in range(0, len(inputs), size):
        yield inputs.take(range(begin, begin + size), axis=0, mode="wrap")


def _write_gauged(path: Path, gauged: Path) -> list[str]:
    """Write a graph whose one output is the largest magnitude of each node's floating outputs.

    Returns:
        A name for each entry of that output, [N].
    """
    model = onnx.load(path, load_external_data=False)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    floats = {
        value.name
        for value in (*inferred.value_info, *inferred.output)
        if value.type.tensor_type.elem_type in _FLOATS
    }
    graph = model.graph
    names = []
    peaks = []
    for node in list(graph.node):
        for value in node.output:
            if value not in floats:
                continue
            wide, magnitude, peak = (f"{value}/{step}" for step in ("wide", "magnitude", "peak"))
            graph.node.extend(
                [
                    onnx.helper.make_node("Cast", [value], [wide], to=onnx.TensorProto.FLOAT),
                    onnx.helper.make_node("Abs", [wide], [magnitude]),
                    onnx.helper.make_node("ReduceMax", [magnitude], [peak], keepdims=0),
                    onnx.helper.make_node("Reshape", [peak, _ONE], [f"{peak}/1"]),
                ]
            )
            names.append(f"{node.op_type} {node.name}".strip())
            peaks.append(f"{peak}/1")
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), _ONE))
    graph.node.append(onnx.helper.make_node("Concat", peaks, [_PEAKS], axis=0))
    del graph.output[:]
    graph.output.append(
        onnx.helper.make_tensor_value_info(_PEAKS, onnx.TensorProto.FLOAT, [len(peaks)])
    )
    onnx.save(model, gauged)
    return names
