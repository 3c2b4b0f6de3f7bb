"""The scale of LoRAs that PEFT trained, which is not among their tensors.

PEFT's own files have it in an adapter_config.json beside them; diffusers writes the same settings
into the file's metadata, and where it writes none it reads alpha as the rank.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from convert.model import TEXT_ENCODER, UNET
from engines.errors import InputError
from engines.fields import parse_json

CONFIG_FILE: Final = "adapter_config.json"
METADATA_KEY: Final = "lora_adapter_metadata"
"""Where diffusers' `save_lora_weights` puts the settings, each after its component and a dot."""

_MAX_PARTS: Final = 32
"""More than any layer's name has."""
_PATTERN: Final = re.compile(r"\^?[\w.]+")


@dataclass(frozen=True)
class PeftScale:
    """What PEFT's LoraConfig says of the scale, lora_alpha / r or lora_alpha / √r.

    `patterns` has other alphas for the layers whose names end in a text, or are one with a ^
    before it.
    """

    alpha: float
    patterns: dict[str, float]
    is_rank_stabilised: bool

    @cached_property
    def _order(self) -> dict[str, int]:
        return {pattern: i for i, pattern in enumerate(self.patterns)}

    def alpha_of(self, path: str, rank: int) -> float:
        """The alpha whose quotient by the rank is a layer's scale.

        Args:
            path: the layer's name, with dots.
            rank: of its factors.

        Source: peft, `get_pattern_key` and `LoraLayer.update_layer`; Kalajdzievski, rsLoRA, arXiv
        2312.03732, for the root.
        """
        parts = path.rsplit(".", _MAX_PARTS)
        names = {f"^{path}", *(".".join(parts[i:]) for i in range(len(parts)))}
        found = names & self.patterns.keys()
        alpha = self.patterns[min(found, key=self._order.__getitem__)] if found else self.alpha
        return alpha * math.sqrt(rank) if self.is_rank_stabilised else alpha


def read_metadata_scales(path: Path, metadata: Mapping[str, str]) -> dict[str, PeftScale]:
    """The scale for each component that diffusers' metadata speak of.

    Raises:
        InputError: the metadata are not what diffusers writes.
    """
    text = metadata.get(METADATA_KEY)
    if text is None:
        return {}
    try:
        settings = parse_json(text)
    except ValueError:
        settings = None
    where = f"{path}: its metadata {METADATA_KEY}"
    if not isinstance(settings, dict):
        raise InputError(f"{where} are not a JSON object. Get the file again.")
    scales = {}
    for component in (UNET, TEXT_ENCODER):
        start = f"{component}."
        own = {
            name.removeprefix(start): value
            for name, value in settings.items()
            if name.startswith(start)
        }
        if own:
            scales[component] = _parse(own, where)
    return scales


def read_config_scale(path: Path) -> tuple[PeftScale, str]:
    """The scale in the adapter_config.json beside one of PEFT's own files.

    Returns:
        The scale, and the sha256 of the adapter_config.json.

    Raises:
        InputError: it is not there, is not what PEFT writes, or describes no LoRA.
    """
    config = path.parent / CONFIG_FILE
    try:
        content = config.read_bytes()
        settings = parse_json(content)
    except FileNotFoundError:
        raise InputError(
            f"{path} is one of PEFT's own files, whose scale is in an {CONFIG_FILE}, and there is "
            f"none beside it. Put the {CONFIG_FILE} that came with it into its directory."
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{config} cannot be read: {type(error).__name__}.") from error
    if not isinstance(settings, dict):
        raise InputError(f"{config} is not a JSON object. Get the file again.")
    kind = settings.get("peft_type", "LORA")
    if kind != "LORA":
        raise InputError(f"{path} is a PEFT adapter of the type {kind!r}; only LORA can be fused.")
    if settings.get("fan_in_fan_out"):
        raise InputError(f"{config} says fan_in_fan_out, which no layer of this family has.")
    return _parse(settings, str(config)), sha256(content).hexdigest()


def _parse(settings: Mapping[str, Any], where: str) -> PeftScale:
    alpha = _number(settings.get("lora_alpha"))
    if alpha is None:
        raise InputError(f"{where}: lora_alpha is no number. Get the file again.")
    patterns = settings.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise InputError(f"{where}: alpha_pattern is not a JSON object. Get the file again.")
    alphas = {}
    for pattern, value in patterns.items():
        number = _number(value)
        # PEFT takes any regular expression; its own and diffusers' files have names only.
        if number is None or not _PATTERN.fullmatch(pattern):
            raise InputError(
                f"{where}: alpha_pattern has an entry that is no layer's name with a number: "
                f"{pattern[:80]!r}."
            )
        alphas[pattern] = number
    return PeftScale(alpha, alphas, settings.get("use_rslora") is True)


def _number(value: object) -> float | None:
    """The finite number that a JSON value is, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
