"""Exporting: a model of the family to a bundle with four ONNX graphs."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from tqdm import tqdm

from convert.completeness import check_complete
from convert.documents import bundle_documents
from convert.embeddings import with_embeddings, write_embeddings
from convert.export_options import ATTENTION_OPSET
from convert.export_plan import ExportPlan
from convert.graphs import GRAPHS
from convert.measure import Measurement, measured
from convert.model import WEIGHT_FILES
from convert.onnx_file import describe_graph, write_graph
from convert.openvino_graph import write_openvino_graph
from convert.preview import fit_preview
from convert.stress import STRESSED, find_overflow
from convert.trace import trace_graph
from engines import layout
from engines.identity import sha256_file
from engines.manifest import ComponentSpec, FileEntry, Manifest, write_manifest
from engines.publish import publish_directory
from engines.weight_map import WeightMap, write_weight_map

_TORCH_DTYPES: Final = {"fp16": torch.float16, "fp32": torch.float32}
_NUMPY_NAMES: Final = {"fp16": "float16", "fp32": "float32"}

_log = logging.getLogger(__name__)


def run_export(
    plan: ExportPlan, out: Path, *, force: bool, progress: bool = True
) -> tuple[Manifest, dict[str, Measurement]]:
    """Export, and publish the bundle at `out`.

    Args:
        plan: what `plan_export` returned.
        out: the bundle to be made; it appears whole or not at all.
        force: whether an older bundle at `out` may be replaced.
        progress: whether to show a progress bar on stderr.

    Returns:
        The manifest that was written, and what each component cost.

    Raises:
        OutputError: `out` exists and may not be replaced, or cannot be written.
        InputError: a part of the model is missing, or a value does not fit the dtype.
    """
    check_complete(plan.model)
    model = with_embeddings(plan.model, plan.embeddings)
    plan = replace(plan, model=model)
    costs: dict[str, Measurement] = {}
    components: dict[str, ComponentSpec] = {}
    with publish_directory(out, force=force, marker=layout.BUNDLE_FILE) as partial:
        _write_documents(bundle_documents(model), partial)
        write_embeddings(plan.embeddings, plan.manifest.embeddings, partial)
        with tqdm(GRAPHS, desc="export", unit="graph", disable=not progress) as bar:
            for name in bar:
                bar.set_postfix_str(name)
                with measured() as costs[name]:
                    components[name] = _export_component(plan, name, partial)
                    if name == layout.UNET and plan.opset < ATTENTION_OPSET:
                        write_openvino_graph(partial / layout.graph_file(name))
                        arranged = layout.openvino_graph_file(name)
                        components[name] = replace(components[name], openvino_graph=arranged)
        encoder = components[layout.VAE_ENCODER]
        factors = fit_preview(partial / encoder.graph, encoder, plan.manifest.latents)
        manifest = replace(
            plan.manifest,
            latents=replace(plan.manifest.latents, preview=factors),
            components=components,
            files=_list_files(partial),
        )
        write_manifest(manifest, partial / layout.BUNDLE_FILE)
    return manifest, costs


def _export_component(plan: ExportPlan, name: str, bundle: Path) -> ComponentSpec:
    """Export a component in its dtype, but in float32 where half precision would overflow."""
    dtype = plan.dtypes[name]
    spec = _write_component(plan, name, dtype, bundle)
    if dtype != "fp16" or name not in STRESSED:
        return spec
    overflow = find_overflow(bundle / spec.graph, spec, name, plan.model)
    if overflow is None:
        return spec
    reason = f"in fp16 {overflow}"
    _log.warning("%s is exported in fp32: %s", name, reason)
    for file in (bundle / name).glob(f"{layout.GRAPH_FILE}*"):
        file.unlink()
    return replace(_write_component(plan, name, "fp32", bundle), dtype_reason=reason)


def _write_component(plan: ExportPlan, name: str, dtype: str, bundle: Path) -> ComponentSpec:
    component = plan.model.components[GRAPHS[name].source]
    torch_dtype = _TORCH_DTYPES[dtype]
    path = bundle / layout.graph_file(name)
    traced = trace_graph(name, component, torch_dtype, plan.opset, plan.fixed)
    weight_map = WeightMap(WEIGHT_FILES[component.name], traced.weights, traced.constants())
    write_graph(traced, component, torch_dtype, path)
    write_weight_map(weight_map, bundle / layout.weight_map_file(name))
    return describe_graph(path, name, _NUMPY_NAMES[dtype])


def _write_documents(documents: Mapping[str, bytes], bundle: Path) -> None:
    for name, content in documents.items():
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).write_bytes(content)


def _list_files(bundle: Path) -> dict[str, FileEntry]:
    paths = sorted(path for path in bundle.rglob("*") if path.is_file())
    return {
        path.relative_to(bundle).as_posix(): FileEntry(path.stat().st_size, sha256_file(path))
        for path in paths
    }
