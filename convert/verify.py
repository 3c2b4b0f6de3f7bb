"""Verifying: each graph of a bundle against torch in float32, then whole pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from tqdm import tqdm

from convert.base import read_base
from convert.completeness import check_complete
from convert.embeddings import bundle_embeddings, with_embeddings
from convert.fuse_record import read_record
from convert.graphs import GRAPHS
from convert.measure import Measurement, measured
from convert.model import BaseModel
from convert.parity import compare, verification_tools
from convert.picture_cases import PICTURES
from convert.picture_parity import compare_pictures
from convert.verify_inputs import Inputs, verification_inputs
from convert.weights import load_network
from engines import layout
from engines.axes import fixed_axes
from engines.backend import choose_backend
from engines.bundle import Bundle
from engines.errors import BundleError, InputError
from engines.manifest import (
    ComponentSpec,
    Manifest,
    Parity,
    PictureParity,
    read_manifest,
    write_manifest,
)
from engines.publish import exclusive, publish_file
from engines.session import Array

_BACKEND: Final = "cpu"


def run_verify(
    bundle: Bundle, model_directory: Path, pictures: int = PICTURES, *, progress: bool = True
) -> tuple[Manifest, dict[str, Measurement]]:
    """Compare the bundle with torch and write the figures into bundle.json.

    Args:
        bundle: what `convert export` made.
        model_directory: the model that it was made from.
        pictures: how many whole pictures are compared after the graphs.
        progress: whether to show a progress bar on stderr.

    Returns:
        The manifest that was written, and what each component cost, and the pictures.

    Raises:
        BundleError: the bundle was replaced since it was opened.
        InputError: the model is missing, damaged, or not the one that the bundle was made from.
        BackendError: a graph cannot be loaded or run.
        OutputError: bundle.json cannot be written.
    """
    with exclusive(bundle.path):
        if read_manifest(bundle.path / layout.BUNDLE_FILE) != bundle.manifest:
            raise BundleError(f"{bundle.path} was replaced meanwhile. Verify it again.")
        return _verify(bundle, model_directory, pictures, progress=progress)


def _verify(
    bundle: Bundle, model_directory: Path, pictures: int, *, progress: bool
) -> tuple[Manifest, dict[str, Measurement]]:
    model = _read_model(bundle, model_directory)
    parity: dict[str, tuple[Parity, ...]] = {}
    costs: dict[str, Measurement] = {}
    with tqdm(GRAPHS, desc="verify", unit="graph", disable=not progress) as bar:
        for name in bar:
            bar.set_postfix_str(name)
            with measured() as costs[name]:
                parity[name] = _verify_component(bundle, model, name)
    found: tuple[PictureParity, ...] = ()
    if pictures:
        with (
            measured() as costs["pictures"],
            tqdm(total=2 * pictures, desc="pictures", disable=not progress) as bar,
        ):
            found = compare_pictures(bundle, model, pictures, bar.update)
    manifest = replace(
        bundle.manifest, parity=parity, pictures=found, verified_with=verification_tools()
    )
    with publish_file(bundle.path / layout.BUNDLE_FILE) as partial:
        write_manifest(manifest, partial)
    return manifest, costs


def _read_model(bundle: Bundle, directory: Path) -> BaseModel:
    exported = bundle.manifest.provenance.get("identity")
    if exported is not None and read_record(directory / layout.FUSE_FILE).identity != exported:
        raise InputError(
            f"{directory} is not the fused model that {bundle.path} was exported from. Give that "
            "one with --against, or export again."
        )
    model = read_base(directory, bundle.manifest.name)
    check_complete(model)
    return with_embeddings(model, bundle_embeddings(bundle))


def _verify_component(bundle: Bundle, model: BaseModel, name: str) -> tuple[Parity, ...]:
    inputs = verification_inputs(name, model, fixed_axes(name, bundle.component(name)))
    references = _run_torch(model, name, inputs)
    spec = bundle.component(name)
    found = {"": _run_graph(bundle, name, inputs)}
    if spec.openvino_graph:
        arranged = replace(spec, graph=spec.openvino_graph)
        found[f" of {layout.OPENVINO_GRAPH_FILE}"] = _run_graph(
            _with_component(bundle, name, arranged), name, inputs
        )
    return tuple(
        compare(
            f"{output}{which}",
            [r[output] for r in references],
            [o[output] for o in outputs],
            spec.dtype,
        )
        for which, outputs in found.items()
        for output in layout.COMPONENTS[name].outputs
    )


def _with_component(bundle: Bundle, name: str, spec: ComponentSpec) -> Bundle:
    components = {**bundle.manifest.components, name: spec}
    return replace(bundle, manifest=replace(bundle.manifest, components=components))


def _run_torch(model: BaseModel, name: str, inputs: Sequence[Inputs]) -> list[dict[str, Array]]:
    """The outputs of a component's module with the model's weights in float32."""
    kind = GRAPHS[name]
    module = kind.module(load_network(model.components[kind.source]))
    results = []
    for feeds in inputs:
        with torch.inference_mode():
            outputs = module(**feeds)
        arrays = outputs if isinstance(outputs, tuple) else (outputs,)
        names = layout.COMPONENTS[name].outputs
        results.append({key: value.numpy() for key, value in zip(names, arrays, strict=True)})
    return results


def _run_graph(bundle: Bundle, name: str, inputs: Sequence[Inputs]) -> list[dict[str, Array]]:
    """The outputs of a component's graph in ONNX Runtime."""
    backend = choose_backend(_BACKEND, bundle).backend
    with backend.open_session(bundle, name) as session:
        dtypes = {tensor.name: tensor.dtype for tensor in session.inputs}
        return [_copy(session.run(_cast(feeds, dtypes))) for feeds in inputs]


def _cast(feeds: Inputs, dtypes: Mapping[str, str]) -> dict[str, Array]:
    return {key: value.numpy().astype(dtypes[key]) for key, value in feeds.items()}


def _copy(outputs: Mapping[str, Array]) -> dict[str, Array]:
    return {key: value.copy() for key, value in outputs.items()}
