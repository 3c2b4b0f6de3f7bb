"""fuse.json: what a fused model was made from, as typed values, written and read here."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from engines import layout
from engines.errors import InputError
from engines.manifest import Defaults, FileEntry, Preset
from engines.records import RecordFile


@dataclass(frozen=True)
class BaseRecord:
    """The base model: what it is, and the sha256 of each file that was read.

    `name` is a hub id or the own name of a directory or file. `layout` is `diffusers`, or `ldm` for
    a single file in the original layout. `input_channels` are the UNet's: 4, or 9 for inpainting.
    `dtypes` are those of each component's weights. `ignored` counts the tensors that are no part of
    the model, by kind: `ema` copies, `position_ids`, the `noise_schedule`, and so on. `files` have
    the names that they have in a diffusers directory, whatever they were called, and a single file
    is called `checkpoint`.
    """

    name: str
    family: str
    layout: str
    input_channels: int
    dtypes: dict[str, tuple[str, ...]]
    ignored: dict[str, int]
    files: dict[str, str]


@dataclass(frozen=True)
class Coverage:
    """How many linear and convolution layers of a component a LoRA changes, of how many."""

    touched: int
    layers: int


@dataclass(frozen=True)
class RankRecord:
    """How many modules of a LoRA are of this kind, rank and alpha in this component.

    `rank` and `alpha` are None where the kind has none.
    """

    component: str
    kind: str
    rank: int | None
    alpha: float | None
    modules: int


@dataclass(frozen=True)
class LoraRecord:
    """One LoRA as it was fused.

    `autov2` is the short hash by which civitai and the webui name a file: the first ten digits
    of its sha256, in capitals. `block_weights` are seventeen numbers (convert/block_weights.py), or
    none. `coverage` has an entry for the UNet and one for the text encoder. `unmatched` are the
    keys of the file that were left out with --allow-unmatched. `config_sha256` is that of the
    adapter_config.json beside a file of PEFT's own, and empty for other files.
    """

    name: str
    sha256: str
    config_sha256: str
    autov2: str
    weight: float
    text_encoder_weight: float
    block_weights: tuple[float, ...]
    ranks: tuple[RankRecord, ...]
    coverage: dict[str, Coverage]
    unmatched: tuple[str, ...]
    trained_tags: dict[str, int]


@dataclass(frozen=True)
class FuseRecord:
    """The content of fuse.json.

    `identity` hashes everything that the output depends on: the content of the inputs, the
    weights, dtype and recipe, the tools' versions. `dtype` is the one that was asked for, or
    `base` where every tensor kept its own. `files` are the fused model's, without fuse.json.
    """

    identity: str
    recipe: str
    base: BaseRecord
    loras: tuple[LoraRecord, ...]
    dtype: str
    tools: dict[str, str]
    files: dict[str, FileEntry]
    defaults: Defaults = field(default_factory=Defaults)
    presets: dict[str, Preset] = field(default_factory=dict)
    revision: int = layout.REVISION

    def trained_tags(self) -> dict[str, dict[str, int]]:
        """For each LoRA that names any, its trained tags and how often it saw them."""
        return {lora.name: lora.trained_tags for lora in self.loras if lora.trained_tags}


_FILE: Final = RecordFile(
    FuseRecord,
    layout.REVISION,
    InputError,
    marks="a fused model",
    make="Make one with `convert fuse`.",
    remake="Fuse the model again",
)


def write_record(record: FuseRecord, path: Path) -> None:
    """Write fuse.json; the caller publishes the file's directory."""
    _FILE.write(record, path)


def read_record(path: Path) -> FuseRecord:
    """Read fuse.json.

    Raises:
        InputError: the file is not there, is not JSON, is of another revision, or a field is
            missing, unknown or of the wrong type.
    """
    return _FILE.read(path)


def fused_sibling(bundle: Path) -> Path:
    """Where `convert all` keeps the fused model of a bundle."""
    return bundle.with_name(f"{bundle.name}.fused")
