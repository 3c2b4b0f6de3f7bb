"""A base model in diffusers layout: its configurations, its files, and where each tensor lies."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from convert.family import IGNORED, check_configurations, check_index
from convert.tensors import FLOATS, StoredTensor, open_tensor_file
from engines import layout
from engines.errors import InputError

TEXT_ENCODER: Final = layout.TEXT_ENCODER
UNET: Final = layout.UNET
VAE: Final = "vae"

WEIGHT_FILES: Final = {
    TEXT_ENCODER: f"{TEXT_ENCODER}/model.safetensors",
    UNET: f"{UNET}/diffusion_pytorch_model.safetensors",
    VAE: f"{VAE}/diffusion_pytorch_model.safetensors",
}
"""Where a diffusers directory has the weights of each component."""

_TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_PATH_KEYS: Final = ("_name_or_path", "name_or_path")
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
    classes have; `config` is its config.json; `file` holds the weights.
    """

    name: str
    config: dict[str, Any]
    tensors: dict[str, StoredTensor]
    file: Path

    def layers(self) -> dict[str, StoredTensor]:
        """The weight of each linear and convolution layer, by the module's name."""
        return {
            name.removesuffix(".weight"): tensor
            for name, tensor in self.tensors.items()
            if name.endswith(".weight")
            and len(tensor.shape) in (2, 4)
            and not name.startswith("text_model.embeddings.")
        }


@dataclass(frozen=True)
class BaseModel:
    """A checked base model: everything that a fused model is made from, but the LoRAs.

    `documents` are the small files (model_index.json, scheduler, tokenizer) by their names in a
    diffusers directory, as they are to be written; the components' configurations are not among
    them.
    """

    name: str
    components: dict[str, Component]
    documents: dict[str, bytes]


def read_base(path: Path, name: str, vae: Path | None = None) -> BaseModel:
    """Read and check a base model, without its weights' values.

    Args:
        path: a diffusers directory.
        name: what the model is called in records.
        vae: a diffusers directory of a VAE, or of a whole model, whose VAE replaces the base's.

    Raises:
        InputError: a part is missing, damaged, or of a family that cannot be converted.
    """
    _check_is_model_directory(path)
    index = _read_json(path / layout.MODEL_INDEX_FILE)
    check_index(str(path), index)
    vae_directory = path / VAE if vae is None else _find_vae(vae)
    directories = {TEXT_ENCODER: path / TEXT_ENCODER, UNET: path / UNET, VAE: vae_directory}
    scheduler = _read_json(path / layout.SCHEDULER_FILE)
    configs = {part: _read_json(folder / "config.json") for part, folder in directories.items()}
    check_configurations(str(path), {**configs, "scheduler": scheduler})
    components = {
        part: read_component(part, folder, configs[part]) for part, folder in directories.items()
    }
    documents = {
        layout.MODEL_INDEX_FILE: _dump(_clean_index(index)),
        layout.SCHEDULER_FILE: _without_paths(path / layout.SCHEDULER_FILE),
        **_read_tokenizer(path / layout.TOKENIZER_DIRECTORY),
    }
    return BaseModel(name, components, documents)


def read_component(name: str, directory: Path, config: Mapping[str, Any]) -> Component:
    """Read where the tensors of one component lie.

    Raises:
        InputError: there is no weight file that can be read, or it is damaged.
    """
    file = _find_weights(name, directory)
    tensors: dict[str, StoredTensor] = {}
    for stored_name, tensor in open_tensor_file(file).tensors.items():
        canonical = canonical_name(name, stored_name)
        if canonical is None:
            continue
        if canonical in tensors:
            raise InputError(f"{file} has {canonical} twice, under an old and a new name.")
        if tensor.dtype not in FLOATS:
            raise InputError(f"{file}: {stored_name} is of dtype {tensor.dtype}, not a float.")
        tensors[canonical] = tensor
    cleaned = {key: value for key, value in config.items() if key not in _PATH_KEYS}
    return Component(name, cleaned, tensors, file)


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


def _check_is_model_directory(path: Path) -> None:
    if path.is_file():
        raise InputError(
            f"{path} is a file. This version reads a base model from a diffusers directory only; "
            "diffusers' from_single_file and save_pretrained make one."
        )
    if not path.is_dir():
        raise InputError(f"There is no base model at {path}.")
    if not (path / layout.MODEL_INDEX_FILE).is_file():
        raise InputError(
            f"{path} is not a diffusers model: it holds no {layout.MODEL_INDEX_FILE}. "
            "Give the directory that holds unet, vae, text_encoder and tokenizer."
        )
    needed = [layout.SCHEDULER_FILE, *(f"{part}/config.json" for part in WEIGHT_FILES)]
    missing = [name for name in needed if not (path / name).is_file()]
    if missing:
        raise InputError(f"{path} is incomplete: it lacks {', '.join(missing)}.")


def _find_vae(path: Path) -> Path:
    for directory in (path, path / VAE):
        config = directory / "config.json"
        if config.is_file():
            kind = _read_json(config).get("_class_name")
            if kind != "AutoencoderKL":
                raise InputError(f"{directory} is not a VAE for Stable Diffusion but a {kind}.")
            return directory
    raise InputError(f"There is no VAE at {path}. Give a diffusers directory with a config.json.")


def _find_weights(component: str, directory: Path) -> Path:
    name = Path(WEIGHT_FILES[component]).name
    half = name.replace(".safetensors", ".fp16.safetensors")
    for candidate in (name, half):
        if (directory / candidate).is_file():
            return directory / candidate
    if any(directory.glob("*.safetensors.index.json")):
        raise InputError(
            f"The weights in {directory} are split into shards, which no Stable Diffusion 1.x "
            "needs; save the model again with diffusers in one file."
        )
    if any(directory.glob("*.bin")):
        raise InputError(
            f"The weights in {directory} are pickles, which can run any code when opened. Save "
            "the model again with diffusers and safe_serialization=True."
        )
    raise InputError(f"{directory} has no {name} (nor {half}).")


def _read_tokenizer(directory: Path) -> dict[str, bytes]:
    names = [name for name in _TOKENIZER_FILES if (directory / name).is_file()]
    if "tokenizer.json" not in names and not {"vocab.json", "merges.txt"} <= set(names):
        raise InputError(f"{directory} has neither a tokenizer.json nor vocab.json and merges.txt.")
    return {
        f"{layout.TOKENIZER_DIRECTORY}/{name}": _without_paths(directory / name) for name in names
    }


def _clean_index(index: Mapping[str, Any]) -> dict[str, Any]:
    """The base's index without the components that a fused model has not."""
    cleaned = {key: value for key, value in index.items() if key not in _PATH_KEYS}
    cleaned.update({name: [None, None] for name in IGNORED if name in index})
    cleaned["requires_safety_checker"] = False
    return cleaned


def _without_paths(path: Path) -> bytes:
    """A document's bytes; JSON that says where it was loaded from is written without that."""
    if path.suffix == ".json" and path.name not in ("tokenizer.json", "vocab.json"):
        content = _read_json(path)
        if any(key in content for key in _PATH_KEYS):
            return _dump({k: v for k, v in content.items() if k not in _PATH_KEYS})
    return _read(path)


def _dump(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read(path))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged: it is not a JSON object. Get the file again.")
    return content
