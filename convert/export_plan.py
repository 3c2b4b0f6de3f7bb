"""Planning an export: the model read, checked and hashed before anything is written."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from convert.base import read_base
from convert.embeddings import (
    Embedding,
    EmbeddingSource,
    describe_embeddings,
    read_embeddings,
    with_embeddings,
)
from convert.export_options import (
    OPENVINO_ARRANGEMENT,
    OPSETS,
    check_opset,
    parse_dtypes,
    parse_static,
)
from convert.fuse_plan import hash_base
from convert.fuse_record import FuseRecord, read_record
from convert.hashing import find_changed
from convert.model import UNET, VAE, WEIGHT_FILES, BaseModel
from engines import __version__, layout
from engines.bundle import open_bundle
from engines.errors import BundleError, InputError
from engines.identity import identity_of, sha256_file, tool_versions
from engines.manifest import Defaults, Latents, Manifest

_TOOLS: Final = (
    "diffusers",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "tokenizers",
    "torch",
    "transformers",
)
_SCALING_FACTOR: Final = 0.18215
"""What Stable Diffusion 1.x means by a VAE configuration that names no factor."""


@dataclass(frozen=True)
class ExportPlan:
    """An export that can be run: its model is complete, and its identity is known.

    `embeddings` are what the text encoder's vocabulary gets beside the model's.
    `dtypes` are those asked for, by component; `fixed` has the sizes of the layout's axes that are
    not to be dynamic. `manifest` is what bundle.json will say, but for components and files.
    """

    model: BaseModel
    embeddings: tuple[Embedding, ...]
    dtypes: dict[str, str]
    opset: int
    fixed: dict[str, int]
    manifest: Manifest

    @property
    def identity(self) -> str:
        """The hash of everything that the bundle depends on."""
        return self.manifest.identity

    def is_fulfilled_by(self, directory: Path, *, progress: bool = False) -> bool:
        """Whether `directory` holds the finished bundle of this very plan, byte for byte."""
        if not (directory / layout.BUNDLE_FILE).is_file():
            return False
        try:
            manifest = open_bundle(directory).manifest
        except BundleError:
            return False
        return manifest.identity == self.identity and not find_changed(
            directory, manifest.files, progress=progress
        )


def plan_export(
    directory: Path,
    *,
    dtype: str,
    opset: int = OPSETS[0],
    static: str = "",
    embeddings: Sequence[EmbeddingSource] = (),
    progress: bool = False,
) -> ExportPlan:
    """Read, check and hash the model that is to be exported.

    Args:
        directory: a fused model, or any diffusers directory of the family.
        dtype: of weights and activations; this and the next two are as in `ExportOptions`.
        opset: the ONNX opset.
        static: the sizes that graphs are fixed to, or empty.
        embeddings: textual-inversion embeddings that the bundle gets.
        progress: whether hashing shows its progress.

    Raises:
        SettingError: an option is not possible.
        InputError: the model is missing, damaged, or of a family that cannot be converted.
    """
    dtypes, shape = parse_dtypes(dtype), parse_static(static)
    check_opset(opset)
    record = None
    if (directory / layout.FUSE_FILE).is_file():
        record = read_record(directory / layout.FUSE_FILE)
    model = read_base(directory, record.recipe if record else directory.resolve().name)
    read = read_embeddings(embeddings, progress=progress)
    with_embeddings(model, read)  # refuses what does not fit
    hashes = hash_base(model, progress=progress)
    if record is not None:
        _check_untouched(directory, record, hashes)
    fixed = shape.axes(latent_downscale(model.components[VAE].config)) if shape else {}
    tools = {"fracture-sd": __version__, **tool_versions(_TOOLS)}
    identity = identity_of(
        {
            "revision": layout.REVISION,
            "openvino": OPENVINO_ARRANGEMENT,
            "opset": opset,
            "dtypes": dict(dtypes),
            "fixed": dict(fixed),
            "tools": dict(tools),
            "model": dict(hashes),
            "fuse": record.identity if record else None,
            "embeddings": {embedding.name: embedding.sha256 for embedding in read},
        }
    )
    defaults = record.defaults if record else _defaults(model)
    if shape is not None:
        defaults = replace(defaults, width=shape.width, height=shape.height)
    manifest = Manifest(
        name=model.name,
        identity=identity,
        tools=tools,
        latents=_latents(model),
        components={},
        files={},
        defaults=defaults,
        presets=record.presets if record else {},
        trained_tags=record.trained_tags() if record else {},
        embeddings=describe_embeddings(model, read),
        provenance=asdict(record) if record else {},
    )
    return ExportPlan(model, read, dtypes, opset, fixed, manifest)


def _check_untouched(directory: Path, record: FuseRecord, hashes: dict[str, str]) -> None:
    """The files of a fused model are those that fuse.json names, byte for byte."""
    weights = set(WEIGHT_FILES.values())
    faults = []
    for name, entry in record.files.items():
        if not (directory / name).is_file():
            faults.append(f"{name} is missing")
        elif (hashes[name] if name in weights else sha256_file(directory / name)) != entry.sha256:
            faults.append(f"{name} has another content than was fused")
    if faults:
        raise InputError(
            f"The fused model {directory} is damaged: {'; '.join(faults)}. Fuse it again."
        )


def latent_downscale(vae_config: Mapping[str, Any]) -> int:
    """Pixels per latent along one side, from the VAE's configuration."""
    return int(2 ** (len(vae_config["block_out_channels"]) - 1))


def scaling_factor(vae_config: Mapping[str, Any]) -> float:
    """What latents are multiplied by after the VAE, from its configuration."""
    return float(vae_config.get("scaling_factor", _SCALING_FACTOR))


def _latents(model: BaseModel) -> Latents:
    config = model.components[VAE].config
    return Latents(
        channels=config["latent_channels"],
        downscale=latent_downscale(config),
        scaling_factor=scaling_factor(config),
    )


def _defaults(model: BaseModel) -> Defaults:
    """Defaults for a model without a recipe: pictures of the size that it was trained on."""
    size = model.components[UNET].config.get("sample_size", 64)
    pixels = size * latent_downscale(model.components[VAE].config)
    return Defaults(width=pixels, height=pixels)
