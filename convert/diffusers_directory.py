"""Reading a model from a diffusers directory."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from convert.family import IGNORED, check_index
from convert.json_file import dump_json, read_bytes, read_json
from convert.model import (
    DIFFUSERS,
    TEXT_ENCODER,
    VAE,
    WEIGHT_FILES,
    BaseModel,
    Component,
    canonical_name,
)
from convert.tensors import FLOATS, StoredTensor
from convert.weight_file import open_weight_file
from engines import layout
from engines.errors import InputError

_TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_PICKLED_NAMES: Final = {TEXT_ENCODER: "pytorch_model"}
"""What torch.save's files are called where it is not the name of the safetensors file."""

_PATH_KEYS: Final = ("_name_or_path", "name_or_path")


def read_directory(path: Path, name: str, parts: Iterable[str]) -> BaseModel:
    """Read a model, without its weights' values.

    Args:
        path: a diffusers directory.
        name: what the model is called in records.
        parts: the components to read.

    Raises:
        InputError: a part is missing or damaged, or the pipeline is of another family.
    """
    directories = {part: path / part for part in parts}
    _check_is_model_directory(path, directories)
    index = read_json(path / layout.MODEL_INDEX_FILE)
    check_index(str(path), index)
    documents = {
        layout.MODEL_INDEX_FILE: dump_json(_clean_index(index)),
        layout.SCHEDULER_FILE: _without_paths(path / layout.SCHEDULER_FILE),
        **_read_tokenizer(path / layout.TOKENIZER_DIRECTORY),
    }
    components = {part: read_component(part, folder) for part, folder in directories.items()}
    return BaseModel(name, DIFFUSERS, components, documents)


def read_vae_directory(path: Path) -> Component:
    """Read the VAE in a diffusers directory of a VAE or of a whole model.

    Raises:
        InputError: there is none, or it is damaged or of another kind.
    """
    for directory in (path, path / VAE):
        config = directory / "config.json"
        if config.is_file():
            kind = read_json(config).get("_class_name")
            if kind != "AutoencoderKL":
                raise InputError(f"{directory} is not a VAE for Stable Diffusion but a {kind}.")
            return read_component(VAE, directory)
    raise InputError(
        f"There is no VAE at {path}. Give a file, or a diffusers directory with a config.json."
    )


def read_component(name: str, directory: Path) -> Component:
    """Read the configuration of one component, and where its tensors lie.

    Raises:
        InputError: there is no weight file that can be read, or a file is damaged.
    """
    config = read_json(directory / "config.json")
    file = _find_weights(name, directory)
    return Component(
        name,
        {key: value for key, value in config.items() if key not in _PATH_KEYS},
        canonical_tensors(name, open_weight_file(file).tensors, file),
        file,
    )


def canonical_tensors(
    component: str, tensors: Mapping[str, StoredTensor], file: Path
) -> dict[str, StoredTensor]:
    """A component's tensors, in diffusers layout, by their canonical names.

    Raises:
        InputError: two names mean one weight, or a weight is no float.
    """
    canonical: dict[str, StoredTensor] = {}
    for stored_name, tensor in tensors.items():
        name = canonical_name(component, stored_name)
        if name is None:
            continue
        if name in canonical:
            raise InputError(f"{file} has {name} twice, under an old and a new name.")
        if tensor.dtype not in FLOATS:
            raise InputError(
                f"{file}: {tensor.name} is of dtype {tensor.dtype}; only weights of 16 bits or "
                "more can be fused. Get the file in fp16."
            )
        canonical[name] = tensor
    return canonical


def _check_is_model_directory(path: Path, parts: Iterable[str]) -> None:
    if not path.is_dir():
        raise InputError(f"There is no base model at {path}.")
    if (path / layout.BUNDLE_FILE).is_file():
        raise InputError(
            f"{path} is a bundle, and no longer a model. Give the fused model or the base that it "
            "was made from."
        )
    if not (path / layout.MODEL_INDEX_FILE).is_file():
        raise InputError(
            f"{path} is not a diffusers model: it holds no {layout.MODEL_INDEX_FILE}. "
            "Give the directory that holds unet, vae, text_encoder and tokenizer, or a checkpoint "
            "file."
        )
    needed = [layout.SCHEDULER_FILE, *(f"{part}/config.json" for part in parts)]
    missing = [name for name in needed if not (path / name).is_file()]
    if missing:
        raise InputError(f"{path} is incomplete: it lacks {', '.join(missing)}.")


def _find_weights(component: str, directory: Path) -> Path:
    name = Path(WEIGHT_FILES[component]).stem
    pickled = _PICKLED_NAMES.get(component, name)
    forms = (f"{name}.safetensors", f"{name}.fp16.safetensors", f"{pickled}.bin")
    for form in (*forms, f"{pickled}.fp16.bin"):
        if (directory / form).is_file():
            return directory / form
    if any(directory.glob("*.safetensors.index.json")):
        raise InputError(
            f"The weights in {directory} are split into shards, which no Stable Diffusion 1.x "
            "needs; save the model again with diffusers in one file."
        )
    raise InputError(f"{directory} has no weights: neither {', '.join(forms[:2])} nor {forms[2]}.")


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
        content = read_json(path)
        if any(key in content for key in _PATH_KEYS):
            return dump_json({k: v for k, v in content.items() if k not in _PATH_KEYS})
    return read_bytes(path)
