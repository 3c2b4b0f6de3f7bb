"""Bundles for tests that build no real plans: a manifest, and graphs that nobody reads."""

from collections.abc import Mapping
from pathlib import Path

from engines import layout
from engines.bundle import Bundle, open_bundle
from engines.identity import sha256_file
from engines.manifest import (
    ComponentSpec,
    Defaults,
    FileEntry,
    Latents,
    Manifest,
    TensorSpec,
    write_manifest,
)

_CHANNELS = {layout.SAMPLE: 4, layout.LATENT_SAMPLE: 4, layout.ENCODER_HIDDEN_STATES: 768}
_DTYPES = {layout.INPUT_IDS: "int64", layout.TIMESTEP: "float32"}


def write_bundle(
    path: Path,
    *,
    size: int = 512,
    fixed: Mapping[str, int] | None = None,
    contents: Mapping[str, bytes] | None = None,
) -> Bundle:
    """A bundle with all four components, of pictures of `size` by default.

    `fixed` has the sizes of axes that are not dynamic, `contents` what is in the graphs of some
    components.
    """
    files = {}
    for name in layout.COMPONENTS:
        graph = path / layout.graph_file(name)
        graph.parent.mkdir(parents=True)
        graph.write_bytes((contents or {}).get(name, name.encode()))
        files[layout.graph_file(name)] = FileEntry(graph.stat().st_size, sha256_file(graph))
    manifest = Manifest(
        name="stand-in",
        identity="0" * 64,
        tools={},
        latents=Latents(4, 8, 0.18215),
        components={name: _component(name, fixed or {}) for name in layout.COMPONENTS},
        files=files,
        defaults=Defaults(width=size, height=size),
    )
    write_manifest(manifest, path / layout.BUNDLE_FILE)
    return open_bundle(path)


def _component(name: str, fixed: Mapping[str, int]) -> ComponentSpec:
    inputs = tuple(
        TensorSpec(
            tensor,
            _DTYPES.get(tensor, "float16"),
            tuple(
                fixed.get(axis, axis) if isinstance(axis, str) else axis or _CHANNELS[tensor]
                for axis in axes
            ),
        )
        for tensor, axes in layout.COMPONENTS[name].inputs.items()
    )
    return ComponentSpec(layout.graph_file(name), "float16", inputs, outputs=())
