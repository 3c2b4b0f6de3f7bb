"""A base model: its configurations, its small files, and where each of its tensors lies."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from convert.tensors import StoredTensor
from engines import layout

TEXT_ENCODER: Final = layout.TEXT_ENCODER
UNET: Final = layout.UNET
VAE: Final = "vae"

EMBEDDING_TABLE: Final = "text_model.embeddings.token_embedding.weight"
"""The table of the text encoder that has a row for each id of the vocabulary."""

WEIGHT_FILES: Final = {
    TEXT_ENCODER: f"{TEXT_ENCODER}/model.safetensors",
    UNET: f"{UNET}/diffusion_pytorch_model.safetensors",
    VAE: f"{VAE}/diffusion_pytorch_model.safetensors",
}
"""Where a diffusers directory has the weights of each component."""

DIFFUSERS: Final = "diffusers"
LDM: Final = "ldm"
CHECKPOINT_FILE: Final = "checkpoint"
"""What records call a file that holds several components, whatever its name is."""

_OLD_VAE_NAMES: Final = {
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "proj_attn": "to_out.0",
}


@dataclass(frozen=True)
class Component:
    """One network of the base.

    `tensors` go by the names that Stable Diffusion 1.5's own repository and diffusers' current
    classes have; `config` is its config.json; `file` holds the weights. `added_rows` follow those
    of `EMBEDDING_TABLE`: vectors of other files, which `config` counts already.
    """

    name: str
    config: dict[str, Any]
    tensors: dict[str, StoredTensor]
    file: Path
    added_rows: tuple[StoredTensor, ...] = ()

    def parts(self, name: str) -> tuple[StoredTensor, ...]:
        """What makes up a tensor, one below the other."""
        rows = self.added_rows if name == EMBEDDING_TABLE else ()
        return self.tensors[name], *rows

    def layers(self) -> dict[str, StoredTensor]:
        """The weight of each linear and convolution layer, by the module's name."""
        return {
            name.removesuffix(".weight"): tensor
            for name, tensor in self.tensors.items()
            if name.endswith(".weight")
            and len(tensor.shape) in (2, 4)
            and not name.startswith("text_model.embeddings.")
        }

    def dtypes(self) -> tuple[str, ...]:
        """The dtypes of its tensors, by their names in safetensors."""
        return tuple(sorted({tensor.dtype for tensor in self.tensors.values()}))


@dataclass(frozen=True)
class BaseModel:
    """A checked base model: everything that a fused model is made from, but the LoRAs.

    `layout` is `diffusers`, or `ldm` for a single file. `documents` are the small files
    (model_index.json, scheduler, tokenizer) by their names in a diffusers directory, as they are
    to be written; the components' configurations are not among them. `ignored` counts what the
    file has that is no part of the model, by kind.
    """

    name: str
    layout: str
    components: dict[str, Component]
    documents: dict[str, bytes]
    ignored: dict[str, int] = field(default_factory=dict)

    def check_unchanged(self) -> None:
        """See that the files that hold the weights are still those whose headers were read.

        Raises:
            InputError: one has changed.
        """
        tensors = [t for part in self.components.values() for t in part.tensors.values()]
        for tensor in {tensor.file: tensor for tensor in tensors}.values():
            tensor.check_unchanged()

    def weight_files(self) -> dict[str, Path]:
        """The files that hold the weights, by the names under which records have them."""
        holders: dict[Path, list[str]] = {}
        for component in self.components.values():
            holders.setdefault(component.file, []).append(component.name)
        return {
            WEIGHT_FILES[names[0]] if len(names) == 1 else CHECKPOINT_FILE: file
            for file, names in holders.items()
        }


def canonical_name(component: str, name: str) -> str | None:
    """The name of a stored tensor in Stable Diffusion 1.5's layout; None for what is no weight.

    transformers 5 writes the text encoder without the prefix `text_model.`, and diffusers before
    0.18 gave the VAE's attention other names. `position_ids` are the numbers 0 to 76, which old
    transformers stored.
    """
    if component == TEXT_ENCODER:
        name = name if name.startswith("text_model.") else f"text_model.{name}"
        return None if name == "text_model.embeddings.position_ids" else name
    if component == VAE and ".attentions." in name:
        module, _, leaf = name.rpartition(".")
        parent, _, layer = module.rpartition(".")
        return f"{parent}.{_OLD_VAE_NAMES.get(layer, layer)}.{leaf}"
    return name
