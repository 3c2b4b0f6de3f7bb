"""Recipes: a base, its LoRAs and their weights, presets and defaults, read from TOML."""

import math
import re
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from convert.block_weights import check_block_weights
from convert.embeddings import EmbeddingSource
from convert.export_options import ExportOptions, option_faults
from convert.sources import place_base, place_lora
from engines.errors import InputError, SettingError
from engines.fields import FieldError, parse_fields
from engines.manifest import Defaults, Preset
from engines.tags import read_tag_count

DIRECTORY: Final = Path(__file__).parent / "recipes"
DEFAULT: Final = "cracked-skin"

_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True)
class RecipeLora:
    """One LoRA of a recipe.

    `source` is a path or a URL; `file` is the name under which a URL is usually saved. An empty
    `sha256` accepts any content. `block_weights` are none or seventeen (convert/block_weights.py).
    """

    name: str
    source: str
    weight: float
    file: str = ""
    sha256: str = ""
    block_weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """One fixed look: what is fused, and how it is used.

    `base` is a path, a hub id, or the URL of a file. In a recipe's file, paths are relative to its
    directory.
    """

    name: str
    base: str
    loras: tuple[RecipeLora, ...]
    embeddings: tuple[EmbeddingSource, ...] = ()
    presets: dict[str, Preset] = field(default_factory=dict)
    defaults: Defaults = field(default_factory=Defaults)
    export: ExportOptions = field(default_factory=ExportOptions)


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(path.stem for path in DIRECTORY.glob("*.toml"))


def load_recipe(name: str) -> Recipe:
    """Read a shipped recipe by name, or any recipe by its file.

    Args:
        name: a name without a suffix, or the path of a .toml file.

    Raises:
        SettingError: no recipe has that name.
        InputError: the file is missing, not TOML, or a key is missing, unknown or wrong.
    """
    if name in recipe_names():
        path = DIRECTORY / f"{name}.toml"
    elif name.endswith(".toml") or Path(name).name != name:
        path = Path(name)
    else:
        raise SettingError(
            f"There is no recipe {name!r}. Take one of {', '.join(recipe_names())}, "
            "or give the path of a .toml file."
        )
    return _read(path)


def _read(path: Path) -> Recipe:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"There is no recipe file {path}.") from None
    except OSError as error:
        raise InputError(f"The recipe {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(f"The recipe {path} is not valid TOML: {error}.") from None
    try:
        recipe = parse_fields(Recipe, content, defaults=True)
    except FieldError as error:
        raise InputError(f"The recipe {path} is wrong: {error}.") from None
    faults = _faults(recipe)
    if faults:
        raise InputError(f"The recipe {path} is wrong: {'; '.join(faults)}.")
    return _normalise(recipe, path.parent)


def _normalise(recipe: Recipe, directory: Path) -> Recipe:
    """The recipe with paths that start from the working directory, and hashes in lower case."""
    return replace(
        recipe,
        base=place_base(recipe.base, directory),
        embeddings=tuple(
            replace(each, source=place_lora(each.source, directory), sha256=each.sha256.lower())
            for each in recipe.embeddings
        ),
        loras=tuple(
            replace(lora, source=place_lora(lora.source, directory), sha256=lora.sha256.lower())
            for lora in recipe.loras
        ),
    )


def _faults(recipe: Recipe) -> list[str]:
    faults = []
    if not recipe.name or Path(recipe.name).name != recipe.name:
        faults.append(f"name is {recipe.name!r}, which cannot name a directory")
    faults += [f"export.{fault.rstrip('.')}" for fault in option_faults(recipe.export)]
    if recipe.defaults.preset and recipe.defaults.preset not in recipe.presets:
        faults.append(f"defaults.preset is {recipe.defaults.preset!r}, which is no preset")
    if recipe.defaults.steps < 1:
        faults.append(f"defaults.steps is {recipe.defaults.steps}, below 1")
    for side in ("width", "height"):
        size = getattr(recipe.defaults, side)
        if size < 8 or size % 8:
            faults.append(f"defaults.{side} is {size}, not a multiple of 8")
    for name, preset in recipe.presets.items():
        try:
            read_tag_count(preset.tags)
        except SettingError as error:
            faults.append(f"presets.{name}.tags: {str(error).rstrip('.')}")
    names = [lora.name for lora in recipe.loras]
    for i, lora in enumerate(recipe.loras):
        if names.index(lora.name) != i:
            faults.append(f"loras[{i}].name is {lora.name!r}, which an earlier one has")
        if not math.isfinite(lora.weight):
            faults.append(f"loras[{i}].weight is {lora.weight}")
        fault = check_block_weights(lora.block_weights)
        if fault:
            faults.append(f"loras[{i}].block_weights are {fault}")
    hashes = [(f"loras[{i}]", lora.sha256) for i, lora in enumerate(recipe.loras)]
    hashes += [(f"embeddings[{i}]", each.sha256) for i, each in enumerate(recipe.embeddings)]
    faults += [
        f"{where}.sha256 is not 64 hexadecimal digits"
        for where, digits in hashes
        if digits and not _SHA256.fullmatch(digits)
    ]
    return faults
