"""What cleaning up a graph is worth: nodes, loading and running, by how it was cleaned.

    convert fuse --recipe demo --out work/demo.fused
    pip install onnxslim==0.1.98 polygraphy==0.53.6 onnx-graphsurgeon==0.6.1
    python -m benchmarks.graph_cleanup work/demo.fused --size 128x128

Every variant of a component is written with the same weights and run on the same inputs, in turns,
on ONNX Runtime's CPU provider and OpenVINO. `weights kept` counts those that still have
the name that they have in the model: what has lost it cannot be refitted.
"""

import argparse
import importlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch

from benchmarks.measure import save
from convert.export_plan import plan_export
from convert.graphs import GRAPHS, PREFIX, dynamic_shapes, example_inputs, make_traceable
from convert.model import BaseModel, Component, canonical_name
from convert.onnx_file import describe_graph, write_graph
from convert.trace import TracedGraph, as_stored, name_weights, trace_graph, translate
from convert.weights import load_network
from engines import layout
from engines.backend import choose_backend
from engines.bundle import Bundle
from engines.errors import BackendError
from engines.identity import Json
from engines.manifest import Latents, Manifest
from engines.session import Array, Session

OPSET = 18
COMPONENTS = (layout.UNET, layout.VAE_DECODER)


def main() -> None:
    """Write, load and run every variant, and save the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="a diffusers directory")
    parser.add_argument("--size", default="128x128", help="of the picture (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--loads", type=int, default=5)
    parser.add_argument("--backends", default="cpu,openvino")
    parser.add_argument("--name", default="graph_cleanup", help="of the file of results")
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    plan = plan_export(options.model, dtype="fp32")
    scale = plan.manifest.latents.downscale
    size = {"batch": 2, "height": height // scale, "width": width // scale}
    figures: dict[str, dict[str, Json]] = {}
    for name in COMPONENTS:
        with tempfile.TemporaryDirectory() as scratch:
            bundles = write_variants(plan.model, name, Path(scratch), size)
            feeds = _feeds(plan.model.components[GRAPHS[name].source], name, size)
            for variant, bundle in bundles.items():
                figures[f"{name}, {variant}"] = _describe(bundle, name, plan.model)
            for backend in options.backends.split(","):
                timed = _time(bundles, name, backend, feeds, options.loads, options.runs)
                for variant, values in timed.items():
                    figures[f"{name}, {variant}"][backend] = {**values}
    command = f"python -m benchmarks.graph_cleanup work/demo.fused --size {options.size}"
    print(save(options.name, command, {key: dict(value) for key, value in figures.items()}, {}))


def write_variants(
    model: BaseModel, name: str, directory: Path, size: dict[str, int]
) -> dict[str, Bundle]:
    """Write one component in every way, each in a bundle of its own."""
    component = model.components[GRAPHS[name].source]
    makers: dict[str, Callable[[], TracedGraph]] = {
        "as translated": lambda: _untouched(name, component),
        "ours": lambda: trace_graph(name, component, torch.float32, OPSET),
        "ours, opset 23": lambda: trace_graph(name, component, torch.float32, 23),
        "ours, static": lambda: trace_graph(name, component, torch.float32, OPSET, size),
    }
    bundles = {}
    for variant, make in makers.items():
        path = directory / variant / layout.graph_file(name)
        path.parent.mkdir(parents=True)
        write_graph(make(), component, torch.float32, path)
        bundles[variant] = _bundle(directory / variant, name)
    path = directory / "torch optimize" / layout.graph_file(name)
    path.parent.mkdir(parents=True)
    _write_optimized(name, component, path)
    bundles["torch optimize"] = _bundle(directory / "torch optimize", name)
    slim = directory / "ours, onnxslim" / layout.graph_file(name)
    slim.parent.mkdir(parents=True)
    onnxslim = importlib.import_module("onnxslim")  # only this script needs it
    onnxslim.slim(str(bundles["ours"].graph(name)), str(slim), save_as_external_data=True)
    bundles["ours, onnxslim"] = _bundle(directory / "ours, onnxslim", name)
    sanitized = directory / "ours, polygraphy" / layout.graph_file(name)
    sanitized.parent.mkdir(parents=True)
    _sanitize(bundles["ours"].graph(name), sanitized)
    bundles["ours, polygraphy"] = _bundle(directory / "ours, polygraphy", name)
    return bundles


def _sanitize(graph: Path, sanitized: Path) -> None:
    program = str(Path(sys.executable).with_name("polygraphy"))
    command = [program, "surgeon", "sanitize", str(graph)]
    command += ["--fold-constants", "--cleanup", "--output", str(sanitized)]
    command += ["--save-external-data", layout.GRAPH_DATA_FILE]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _untouched(name: str, component: Component) -> TracedGraph:
    model = translate(name, component, torch.float32, OPSET, {})
    names = name_weights(model.graph, component.name)
    initializers = model.graph.initializers
    return TracedGraph(model, {key: as_stored(initializers[key]) for key in names})


def _write_optimized(name: str, component: Component, path: Path) -> None:
    """What `torch.onnx.export` does by default; it needs the weights' values."""
    network = load_network(component)
    make_traceable(name, network)
    with torch.no_grad():
        program = torch.export.export(
            GRAPHS[name].module(network),
            example_inputs(name, component.config, torch.float32, {}),
            dynamic_shapes=dynamic_shapes(name, {}),
            strict=False,
        )
        optimized = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(layout.COMPONENTS[name].inputs),
            output_names=list(layout.COMPONENTS[name].outputs),
            optimize=True,
            verbose=False,
        )
    if optimized is None:
        raise RuntimeError("the exporter returned nothing")
    for value in list(optimized.model.graph.initializers.values()):
        stored = canonical_name(component.name, str(value.name).removeprefix(PREFIX))
        if stored in component.tensors:
            value.name = stored
    optimized.save(path, external_data=True)


def _bundle(directory: Path, name: str) -> Bundle:
    spec = describe_graph(directory / layout.graph_file(name), name, "float32")
    manifest = Manifest("variant", "", {}, Latents(4, 8, 1.0), {name: spec}, {})
    return Bundle(directory, manifest)


def _feeds(component: Component, name: str, size: dict[str, int]) -> dict[str, Array]:
    generator = torch.Generator().manual_seed(0)
    tensors = example_inputs(name, component.config, torch.float32, {**size, "tokens": 77})
    names = layout.COMPONENTS[name].inputs
    return {
        key: torch.randn(value.shape, generator=generator).numpy()
        for key, value in zip(names, tensors, strict=True)
    }


def _describe(bundle: Bundle, name: str, model: BaseModel) -> dict[str, Json]:
    graph = onnx.load(bundle.graph(name), load_external_data=False).graph
    stored = model.components[GRAPHS[name].source].tensors
    return {
        "nodes": len(graph.node),
        "graph_bytes": bundle.graph(name).stat().st_size,
        "weights_kept": sum(value.name in stored for value in graph.initializer),
    }


def _time(
    bundles: dict[str, Bundle],
    name: str,
    backend_name: str,
    feeds: dict[str, Array],
    loads: int,
    runs: int,
) -> dict[str, dict[str, Json]]:
    """Median seconds to load with the first run, and to run; how far the outputs are from ours.

    OpenVINO compiles a graph only once it knows the sizes that it runs at.
    """
    load_s: dict[str, list[float]] = {variant: [] for variant in bundles}
    run_s: dict[str, list[float]] = {variant: [] for variant in bundles}
    sessions: dict[str, Session] = {}
    refused: dict[str, dict[str, Json]] = {}
    for _ in range(loads):
        for variant, bundle in bundles.items():
            if variant in refused:
                continue
            if variant in sessions:
                sessions.pop(variant).close()
            begin = time.perf_counter()
            session = choose_backend(backend_name, bundle).backend.open_session(bundle, name)
            try:
                session.run(feeds)
            except BackendError as error:
                parts = [part.strip() for part in str(error).split(" : ")]
                refused[variant] = {"refused": next(part for part in reversed(parts) if part)}
                session.close()
                continue
            sessions[variant] = session
            load_s[variant].append(time.perf_counter() - begin)
    outputs = {}
    for turn in range(runs + 2):
        for variant, session in sessions.items():
            begin = time.perf_counter()
            (output,) = session.run(feeds).values()
            if turn >= 2:
                run_s[variant].append(time.perf_counter() - begin)
            outputs[variant] = output.copy()
    reference = outputs["ours"]
    for session in sessions.values():
        session.close()
    timed: dict[str, dict[str, Json]] = {
        variant: {
            "load_s": round(statistics.median(load_s[variant]), 3),
            "run_s": round(statistics.median(run_s[variant]), 4),
            "run_min_s": round(min(run_s[variant]), 4),
            "difference": float(np.abs(outputs[variant] - reference).max()),
        }
        for variant in outputs
    }
    return {**timed, **refused}


if __name__ == "__main__":
    main()
