"""Textual-inversion embeddings: vectors that a name in the prompt stands for.

At export they become further rows of the text encoder's table of token embeddings, behind those of
its vocabulary. So every engine runs them as it runs other tokens, and no weight is touched.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from convert.kinds import UNKNOWN, recognise
from convert.model import TEXT_ENCODER, BaseModel
from convert.sources import find_file, hash_checked
from convert.tensors import FLOATS, StoredTensor, TensorFile
from convert.weight_file import open_weight_file
from engines import layout
from engines.bundle import Bundle
from engines.errors import InputError, SettingError
from engines.manifest import EmbeddingSpec

MAX_VECTORS: Final = layout.CHUNK_TOKENS - 2
"""More do not fit into a chunk of prompt."""

_EMB_PARAMS: Final = "emb_params"
_STRING_TO_PARAM: Final = "string_to_param."
_SDXL_PARTS: Final = {"clip_l", "clip_g"}
_SYNTAX: Final = re.compile(r"[()\[\]\\:|\x00-\x1f]")
_NOT_IN_FILE_NAMES: Final = re.compile(r"[^\w.-]+")
_MAX_NAME: Final = 100


@dataclass(frozen=True)
class EmbeddingSource:
    """An embedding that is asked for, in the words of recipe and command line.

    `source` is a path or a URL, and `file` the name under which a URL is usually saved. Without a
    `name` it goes by the token that its file names in angle brackets, else by the file's name. An
    empty `sha256` accepts any content.
    """

    source: str
    name: str = ""
    file: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Embedding:
    """A checked embedding: `vectors` [n, width] or [width], and the hash of the file it is from."""

    name: str
    vectors: StoredTensor
    sha256: str

    @property
    def count(self) -> int:
        """How many tokens it takes."""
        return self.vectors.shape[0] if len(self.vectors.shape) == 2 else 1


def parse_embedding(text: str) -> EmbeddingSource:
    """`[NAME=]FILE|URL` of the command line; what is a path that exists is one, `=` and all."""
    name, equals, source = text.partition("=")
    if not equals or "/" in name or Path(text).exists():
        return EmbeddingSource(text)
    return EmbeddingSource(source, name)


def read_embeddings(
    sources: Sequence[EmbeddingSource], *, progress: bool = True
) -> tuple[Embedding, ...]:
    """Read, check and hash embeddings.

    Raises:
        InputError: one is missing, damaged, of another kind, or its name cannot be one.
        SettingError: two have one name.
    """
    found: dict[str, Embedding] = {}
    for source in sources:
        embedding = _read(source, progress=progress)
        other = found.setdefault(embedding.name.casefold(), embedding)
        if other is not embedding:
            raise SettingError(
                f"Two embeddings have the name {embedding.name!r}: {other.vectors.file} and "
                f"{embedding.vectors.file}. Give one another: NAME=FILE."
            )
    return tuple(found.values())


def with_embeddings(model: BaseModel, embeddings: Sequence[Embedding]) -> BaseModel:
    """The model with further rows in its table of token embeddings.

    Raises:
        InputError: an embedding has another width than the model.
    """
    if not embeddings:
        return model
    component = model.components[TEXT_ENCODER]
    width = component.config["hidden_size"]
    for embedding in embeddings:
        found = embedding.vectors.shape[-1]
        if found != width:
            raise InputError(
                f"The embedding {embedding.vectors.file} has vectors of {found} numbers, and this "
                f"model's are {width}: it was made for another family."
            )
    count = sum(embedding.count for embedding in embeddings)
    extended = replace(
        component,
        config={**component.config, "vocab_size": component.config["vocab_size"] + count},
        added_rows=tuple(embedding.vectors for embedding in embeddings),
    )
    return replace(model, components={**model.components, TEXT_ENCODER: extended})


def describe_embeddings(
    model: BaseModel, embeddings: Sequence[Embedding]
) -> dict[str, EmbeddingSpec]:
    """The manifest's entries: names, ids behind the vocabulary of `model`, files in the bundle."""
    first = model.components[TEXT_ENCODER].config["vocab_size"]
    specs: dict[str, EmbeddingSpec] = {}
    files: set[str] = set()
    for embedding in embeddings:
        file = _file_name(embedding.name, files)
        files.add(file)
        specs[embedding.name] = EmbeddingSpec(first, embedding.count, file, embedding.sha256)
        first += embedding.count
    return specs


def bundle_embeddings(bundle: Bundle) -> tuple[Embedding, ...]:
    """The embeddings that a bundle holds, in the order of their ids.

    Raises:
        InputError: a file of theirs is damaged.
    """
    specs = sorted(bundle.manifest.embeddings.items(), key=lambda item: item[1].first_id)
    return tuple(
        Embedding(
            name, open_weight_file(bundle.path / spec.file).tensors[_EMB_PARAMS], spec.source_sha256
        )
        for name, spec in specs
    )


def write_embeddings(
    embeddings: Sequence[Embedding], specs: Mapping[str, EmbeddingSpec], bundle: Path
) -> None:
    """Write each embedding into the bundle, in the form that the webui reads too."""
    from convert.tensor_writer import write_tensor_file

    for embedding in embeddings:
        path = bundle / specs[embedding.name].file
        path.parent.mkdir(exist_ok=True)
        vectors = embedding.vectors
        write_tensor_file(
            path,
            {_EMB_PARAMS: (vectors.dtype, (embedding.count, vectors.shape[-1]))},
            _reader(vectors),
            {"name": embedding.name},
        )


def _reader(tensor: StoredTensor) -> Callable[[str], memoryview]:
    return lambda _: tensor.read()


def _read(source: EmbeddingSource, *, progress: bool) -> Embedding:
    path = find_file(source.source, source.file, source.sha256, kind="embedding", progress=progress)
    file = open_weight_file(path)
    token, vectors = _find_vectors(file)
    if vectors.dtype not in FLOATS or len(vectors.shape) not in (1, 2) or not vectors.size:
        raise InputError(
            f"The embedding {path} has {vectors.dtype} of the shape {vectors.shape} in the place "
            "of vectors."
        )
    embedding = Embedding(
        source.name or token or path.stem, vectors, hash_checked(path, source.sha256)
    )
    if embedding.count > MAX_VECTORS:
        raise InputError(
            f"The embedding {path} has {embedding.count} vectors; {MAX_VECTORS} is the most that "
            "fits into a chunk of prompt."
        )
    _check_name(embedding.name, path)
    return embedding


def _find_vectors(file: TensorFile) -> tuple[str, StoredTensor]:
    """The token that a file of diffusers names, or none, and the vectors."""
    tensors = file.tensors
    if tensors.keys() >= _SDXL_PARTS:
        raise InputError(f"The embedding {file.path} is for Stable Diffusion XL.")
    params = {name for name in tensors if name.startswith(_STRING_TO_PARAM)} or (
        {_EMB_PARAMS} & tensors.keys()
    )
    if len(params) == 1:
        return "", tensors[params.pop()]
    kind = recognise(file)
    if len(tensors) == 1 and kind == UNKNOWN:
        return next(iter(tensors.items()))
    raise InputError(
        f"{file.path} is no textual-inversion embedding with one name, but {kind.what} with "
        f"{len(tensors)} tensors."
    )


def _check_name(name: str, path: Path) -> None:
    if _SYNTAX.search(name) or not name.strip() or len(name) > _MAX_NAME:
        raise InputError(
            f"The embedding {path} cannot go by the name {name[:_MAX_NAME]!r}: brackets, "
            "backslashes, colons and bars mean something else in a prompt. Give it another: "
            f"NAME={path}"
        )


def _file_name(name: str, taken: set[str]) -> str:
    """A path in the bundle, unlike those that are taken even where case does not count."""
    stem = _NOT_IN_FILE_NAMES.sub("-", name).strip("-.") or "embedding"
    folded = {file.casefold() for file in taken}
    number, file = 1, layout.embedding_file(stem)
    while file.casefold() in folded:
        number += 1
        file = layout.embedding_file(f"{stem}-{number}")
    return file
