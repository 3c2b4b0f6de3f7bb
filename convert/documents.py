"""The small files of a bundle: tokenizer, scheduler, index and the networks' configurations.

They are what `optimum`'s ONNX pipelines and diffusers expect beside the graphs.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer

from convert.export_plan import scaling_factor
from convert.graphs import GRAPHS
from convert.model import VAE, BaseModel
from engines import layout
from engines.errors import InputError

_VOCABULARY: Final = f"{layout.TOKENIZER_DIRECTORY}/vocab.json"
_MERGES: Final = f"{layout.TOKENIZER_DIRECTORY}/merges.txt"
_TOKENIZER_CONFIG: Final = f"{layout.TOKENIZER_DIRECTORY}/tokenizer_config.json"


def bundle_documents(model: BaseModel) -> dict[str, bytes]:
    """Every small file of the bundle by its name, with the tokenizer in both of its forms.

    Raises:
        InputError: the tokenizer's files cannot be read.
    """
    documents = dict(model.documents)
    documents.setdefault(_TOKENIZER_CONFIG, _dump({"tokenizer_class": "CLIPTokenizer"}))
    if not _says_how_to_pad(documents.get(layout.TOKENIZER_FILE)):
        documents[layout.TOKENIZER_FILE] = _build_tokenizer(documents)
    if _VOCABULARY not in documents or _MERGES not in documents:
        documents.update(_split_tokenizer(documents[layout.TOKENIZER_FILE]))
    for name, kind in GRAPHS.items():
        config = dict(model.components[kind.source].config)
        if kind.source == VAE:
            config["scaling_factor"] = scaling_factor(config)
        documents[f"{name}/config.json"] = _dump(config)
    return documents


def _says_how_to_pad(tokenizer: bytes | None) -> bool:
    """Whether a tokenizer.json is there and names its padding, which the runtime reads."""
    if tokenizer is None:
        return False
    try:
        return json.loads(tokenizer)["padding"] is not None
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"The model's {layout.TOKENIZER_FILE} is damaged: {error}.") from error


def _build_tokenizer(documents: Mapping[str, bytes]) -> bytes:
    """tokenizer.json, as transformers makes it from the model's files, padding to a chunk."""
    from transformers import CLIPTokenizerFast

    with tempfile.TemporaryDirectory() as directory:
        for name, content in documents.items():
            if name.startswith(f"{layout.TOKENIZER_DIRECTORY}/"):
                (Path(directory) / Path(name).name).write_bytes(content)
        try:
            tokenizer = CLIPTokenizerFast.from_pretrained(directory, local_files_only=True)
        except Exception as error:  # the libraries below have no common base for their errors
            raise InputError(f"The model's tokenizer cannot be read: {error}") from error
    backend: Tokenizer = tokenizer.backend_tokenizer
    backend.enable_padding(
        length=layout.CHUNK_TOKENS, pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token
    )
    return backend.to_str(pretty=False).encode()


def _split_tokenizer(tokenizer: bytes) -> dict[str, bytes]:
    """vocab.json and merges.txt, from a tokenizer.json."""
    try:
        content = json.loads(tokenizer)["model"]
        vocabulary, merges = content["vocab"], content["merges"]
        lines = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"The model's {layout.TOKENIZER_FILE} is damaged: {error}.") from error
    return {
        _VOCABULARY: json.dumps(vocabulary, ensure_ascii=False).encode(),
        _MERGES: "\n".join(["#version: 0.2", *lines, ""]).encode(),
    }


def _dump(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
