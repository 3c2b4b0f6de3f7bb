"""Reading a base model in any form that it comes in."""

import json
from dataclasses import replace
from pathlib import Path

from convert.checkpoint import CONFIGURATION, read_checkpoint, read_vae_file
from convert.diffusers_directory import read_directory, read_vae_directory
from convert.family import check_configurations
from convert.model import VAE, WEIGHT_FILES, BaseModel, Component
from engines import layout
from engines.errors import InputError


def read_base(
    path: Path, name: str, vae: Path | None = None, configuration: Path = CONFIGURATION
) -> BaseModel:
    """Read and check a base model, without its weights' values.

    Args:
        path: a diffusers directory, or a checkpoint file in the original layout.
        name: what the model is called in records.
        vae: what has the VAE that replaces the base's: a file, or a diffusers directory of a VAE
            or of a whole model.
        configuration: a diffusers directory with the configurations of a file's networks.

    Raises:
        InputError: a part is missing, damaged, or of a family that cannot be converted.
    """
    parts = [part for part in WEIGHT_FILES if part != VAE or vae is None]
    if path.is_file():
        base = read_checkpoint(path, name, parts, configuration)
    else:
        base = read_directory(path, name, parts)
    if vae is not None:
        base = replace(base, components={**base.components, VAE: _read_vae(vae, configuration)})
    configurations = {part: component.config for part, component in base.components.items()}
    scheduler = json.loads(base.documents[layout.SCHEDULER_FILE])
    check_configurations(str(path), {**configurations, "scheduler": scheduler})
    return base


def _read_vae(path: Path, configuration: Path) -> Component:
    if path.is_file():
        return read_vae_file(path, configuration)
    if path.is_dir():
        return read_vae_directory(path)
    raise InputError(f"There is no VAE at {path}. Check the path.")
