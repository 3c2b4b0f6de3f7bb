"""bundle.json: everything that a reader of a bundle needs to know, as typed values."""

import math
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from engines import layout
from engines.errors import BundleError
from engines.records import RecordFile
from engines.tags import NONE


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph.

    `dtype` is numpy's name for it; an axis of `shape` is a number or, where it is dynamic, a name
    that is the same number wherever it occurs in one call.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class ComponentSpec:
    """One exported graph: where it is, the dtype of its weights, its tensors.

    `dtype_reason` says why it has another dtype than was asked for; it is empty where it has not.
    `openvino_graph` is the same graph as OpenVINO runs it fastest, empty where there is none.
    """

    graph: str
    dtype: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dtype_reason: str = ""
    openvino_graph: str = ""


@dataclass(frozen=True)
class FileEntry:
    """A file's size in bytes and the sha256 of its content."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Latents:
    """How latents relate to pictures.

    Attributes:
        channels: of the latents.
        downscale: pixels per latent along one side.
        scaling_factor: what latents are multiplied by after the VAE.
        preview: for each channel, and last for none, the red, green and blue in -1 to 1 that it
            adds to a preview; empty where no map was fitted.
    """

    channels: int
    downscale: int
    scaling_factor: float
    preview: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Preset:
    """Prompt text that a preset puts before and after the user's, and its negative prompt.

    `tags` says how many of the look's trained tags it adds, as `engines.tags` reads it.
    """

    before: str = ""
    after: str = ""
    negative: str = ""
    tags: str = NONE


@dataclass(frozen=True)
class EmbeddingSpec:
    """A textual-inversion embedding: the ids that its name in a prompt stands for.

    The text encoder's vocabulary goes on with them; `file` holds the vectors once more, for
    verifying and for other programs, and `source_sha256` is the hash of the file they came in.
    """

    first_id: int
    vectors: int
    file: str
    source_sha256: str


@dataclass(frozen=True)
class Defaults:
    """What a request means by leaving a setting out. `cfg` is the guidance scale."""

    sampler: str = "DPM++ 2M"
    schedule: str = "karras"
    steps: int = 20
    cfg: float = 7.0
    width: int = 512
    height: int = 512
    negative: str = ""
    preset: str = ""


@dataclass(frozen=True)
class Parity:
    """How far one component's outputs are from torch's, over all verified inputs.

    `tolerance` is the largest `max_error` that passes; errors are absolute, on outputs of the
    named component, and `cosine` is the smallest over the inputs.
    """

    output: str
    max_error: float
    mean_error: float
    cosine: float
    tolerance: float
    passed: bool


@dataclass(frozen=True)
class PictureParity:
    """How far a whole picture is from diffusers' in float32, at the same prompt and seed.

    `psnr` is in decibels, 100 where there is no difference; `ssim` is 1 there. `least_psnr` and
    `least_ssim` are the lowest that pass.
    """

    prompt: str
    seed: int
    steps: int
    cfg: float
    width: int
    height: int
    psnr: float
    ssim: float
    least_psnr: float
    least_ssim: float
    passed: bool


@dataclass(frozen=True)
class Manifest:
    """The content of bundle.json.

    `identity` is the hash of what the bundle was made from: the fused model's content, the export
    options and the tools' versions. `embeddings` has textual inversions by the names that stand
    for them in prompts. `provenance` is the fused model's fuse.json, or empty where
    the model did not come from `convert fuse`. `verified_with` has the versions of the tools that
    made `parity` and `pictures`; all three are empty until `convert verify` has run.
    """

    name: str
    identity: str
    tools: dict[str, str]
    latents: Latents
    components: dict[str, ComponentSpec]
    files: dict[str, FileEntry]
    defaults: Defaults = field(default_factory=Defaults)
    presets: dict[str, Preset] = field(default_factory=dict)
    trained_tags: dict[str, dict[str, int]] = field(default_factory=dict)
    embeddings: dict[str, EmbeddingSpec] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, tuple[Parity, ...]] = field(default_factory=dict)
    pictures: tuple[PictureParity, ...] = ()
    verified_with: dict[str, str] = field(default_factory=dict)
    revision: int = layout.REVISION


_OF_LATENTS: Final = (
    (layout.UNET, layout.OUT_SAMPLE, 1),
    (layout.VAE_ENCODER, layout.LATENT_PARAMETERS, 2),
    (layout.VAE_DECODER, layout.LATENT_SAMPLE, 1),
)
"""Tensors whose channels are a multiple of the latents'."""


def _latent_faults(manifest: Manifest) -> Iterator[str]:
    """Sizes and factors that nothing can have, or that the graphs contradict."""
    latents = manifest.latents
    for name in ("channels", "downscale", "scaling_factor"):
        value = getattr(latents, name)
        if not 0 < value < math.inf:
            yield f"latents.{name} has the unexpected value {reprlib.repr(value)}"
    if latents.preview and (
        len(latents.preview) != latents.channels + 1
        or any(len(row) != 3 or not all(map(math.isfinite, row)) for row in latents.preview)
    ):
        yield "latents.preview is no table of a colour for each channel and one for none"
    for component, name, multiple in _OF_LATENTS:
        spec = manifest.components.get(component)
        for tensor in (*spec.inputs, *spec.outputs) if spec else ():
            channels = tensor.shape[1] if len(tensor.shape) > 1 else None
            if tensor.name == name and channels != multiple * latents.channels:
                yield (
                    f"latents.channels is {reprlib.repr(latents.channels)}, but {component}'s "
                    f"{name} has the shape {reprlib.repr(list(tensor.shape))}"
                )


_FILE: Final = RecordFile(
    Manifest,
    layout.REVISION,
    BundleError,
    marks="a bundle",
    make="Make one with `convert export` or `convert all`.",
    remake="Export the bundle again",
    faults=_latent_faults,
)


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write bundle.json; the caller publishes the file or its directory."""
    _FILE.write(manifest, path)


def read_manifest(path: Path) -> Manifest:
    """Read bundle.json.

    Raises:
        BundleError: the file is not there, is not JSON, is of another revision, or a field is
            missing, unknown or of the wrong type; or what it says of latents is not possible.
    """
    return _FILE.read(path)
