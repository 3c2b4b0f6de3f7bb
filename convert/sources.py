"""Where a recipe's files come from: a path, a hub id, or a URL."""

import os
import re
from pathlib import Path
from typing import Final

from convert.downloads.address import parse_address
from engines.errors import InputError, MissingExtraError
from engines.identity import sha256_file

_PACKAGE: Final = Path(__file__).parent
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_URL: Final = re.compile(r"https?://", re.IGNORECASE)

_CONFIGURATION: Final = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/*",
    "text_encoder/config.json",
    "unet/config.json",
    "vae/config.json",
)
_WEIGHTS: Final = (
    "text_encoder/model.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
)


def is_url(source: str) -> bool:
    """Whether `source` is an http or https address."""
    return _URL.match(source) is not None


def is_hub_id(source: str) -> bool:
    """Whether `source` has the form owner/name and is no path that exists."""
    return _HUB_ID.fullmatch(source) is not None and not Path(source).exists()


def place_base(source: str, directory: Path) -> str:
    """A base's source with a relative path put below `directory`; a URL or hub id as it is."""
    placed = place_lora(source, directory)
    return source if _HUB_ID.fullmatch(source) and not Path(placed).exists() else placed


def place_lora(source: str, directory: Path) -> str:
    """A LoRA's source with a relative path put below `directory`; a URL as it is."""
    return source if is_url(source) else str(directory / Path(source).expanduser())


def source_name(source: str) -> str:
    """What a file is called by its source: the last part of its path or address, less a suffix.

    Raises:
        InputError: `source` is a malformed address.
    """
    return Path(parse_address(source).path if is_url(source) else source).stem


def find_base(source: str, *, progress: bool = True) -> Path:
    """The directory or file of a base model.

    Args:
        source: a path; a hub id, which is downloaded into the hub's cache, or found there when
            there is no network; or the URL of a file, which is fetched into the download cache.
        progress: whether the download of a file shows its progress.

    Raises:
        InputError: it is not there, or cannot be fetched, or is something else.
        OutputError: the download cache cannot be written.
    """
    if is_url(source):
        return _download_file(source, "", "", progress=progress)
    path = Path(source).expanduser()
    if path.exists():
        return path
    if is_hub_id(source):
        return _download_base(source)
    raise InputError(_missing("base model", path))


def find_file(
    source: str, file: str, sha256: str = "", *, kind: str = "LoRA", progress: bool = True
) -> Path:
    """The path of a LoRA or another file that a recipe names.

    Args:
        source: a path, or a URL, which is fetched into the download cache, or found there.
        file: the name that a download from that URL has, or empty.
        sha256: what a download's content has to hash to, or empty.
        kind: what it is, for the error.
        progress: whether a download shows its progress.

    Raises:
        InputError: it is not there, or cannot be fetched, or is something else.
        OutputError: the download cache cannot be written.
    """
    if is_url(source):
        return _download_file(source, file, sha256, progress=progress)
    path = Path(source).expanduser()
    if not path.exists():
        raise InputError(_missing(f"{kind} file", path))
    if path.is_dir():
        raise InputError(f"{path} is a directory; give the {kind}'s file in it.")
    return path


def hash_checked(path: Path, expected: str) -> str:
    """The sha256 of a file.

    Raises:
        InputError: `expected` is not empty and differs.
    """
    found = sha256_file(path)
    if expected and found != expected:
        raise InputError(
            f"{path} has the sha256 {found}, but the recipe expects {expected}: it is another "
            "file or damaged. Download it again, or mend the recipe."
        )
    return found


def _missing(kind: str, path: Path) -> str:
    fault = f"There is no {kind} at {os.path.normpath(path)}."
    if path.is_relative_to(_PACKAGE):
        return (
            f"{fault} It is part of the project's repository, not of the installed package: run "
            "the command from a clone, or give --base and --lora."
        )
    return f"{fault} Check the path."


def _download_file(url: str, name: str, sha256: str, *, progress: bool) -> Path:
    try:
        from convert.downloads.fetch import fetch
        from engines.cache import cache_directory
    except ImportError as error:
        raise MissingExtraError(str(error.name), "convert", "A download") from None
    return fetch(url, cache_directory(), sha256=sha256, name=name, progress=progress)


def _download_base(hub_id: str) -> Path:
    """Fetch what the converter reads of a hub repository, and nothing else."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            EntryNotFoundError,
            GatedRepoError,
            HFValidationError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
        )
    except ImportError:
        raise MissingExtraError("huggingface_hub", "convert", f"The hub id {hub_id}") from None

    def fetch(patterns: list[str]) -> Path:
        return Path(snapshot_download(hub_id, allow_patterns=patterns))

    try:
        path = fetch([*_CONFIGURATION, *_WEIGHTS])
        lacking = [name for name in _WEIGHTS if not (path / name).is_file()]
        if lacking:
            path = fetch([name.replace(".safetensors", ".fp16.safetensors") for name in lacking])
    except LocalEntryNotFoundError as error:
        raise InputError(
            f"{hub_id} is neither a directory here nor in the hub's cache, and the hub cannot be "
            "reached. Check the path, or download it where there is a network and give its "
            "directory with --base PATH."
        ) from error
    except GatedRepoError as error:
        raise InputError(
            f"The hub repository {hub_id} asks for a licence to be accepted. Accept it on its "
            "page, run `hf auth login`, and try again."
        ) from error
    except (RepositoryNotFoundError, EntryNotFoundError, HFValidationError) as error:
        raise InputError(
            f"{hub_id} is neither a directory here nor a repository on the hub. Check the name."
        ) from error
    except OSError as error:
        raise InputError(f"{hub_id} cannot be downloaded: {_first_line(error)}") from error
    return path


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
