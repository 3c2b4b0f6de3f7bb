"""How LoRA files name the layers that they change: kohya, LyCORIS, diffusers, PEFT and ComfyUI.

A key is a prefix for the network, the layer's name and the tensor's role. kohya and LyCORIS write
the layer's name with underscores, the others with dots; it is diffusers' name or the original
layout's. Which layer a name means is for the base to say (convert/layer_names.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from convert.model import TEXT_ENCODER, UNET
from convert.updates.difference import ALPHA
from convert.updates.dora import LYCORIS, PEFT
from convert.updates.full import BIAS_ROLES, WEIGHT_ROLES
from convert.updates.loha import LoHa
from convert.updates.lokr import LoKr
from convert.updates.low_rank import DOWN, MID, UP
from convert.updates.module import UP_BIAS

PEFT_PREFIX: Final = "base_model.model."
"""What PEFT's own files put before every name; their scale is in an adapter_config.json."""

_FLAT_PREFIXES: Final = {
    "lora_unet_": UNET,
    "lora_te_": TEXT_ENCODER,
    "lycoris_unet_": UNET,
    "lycoris_te_": TEXT_ENCODER,
    "lycoris_": None,
}
_DOTTED_PREFIXES: Final = {
    f"{PEFT_PREFIX}unet.": UNET,
    f"{PEFT_PREFIX}text_encoder.": TEXT_ENCODER,
    PEFT_PREFIX: None,
    "unet.": UNET,
    "text_encoder.": TEXT_ENCODER,
    "model.diffusion_model.": UNET,
    "diffusion_model.": UNET,
    "text_encoders.clip_l.transformer.": TEXT_ENCODER,
    "": None,
}
"""The network that each start of a key names; None where only the layer's name can tell."""

_NAMINGS: Final = {
    "lora_": "kohya",
    "lycoris_": "LyCORIS",
    PEFT_PREFIX: "PEFT",
    "model.diffusion_model.": "ComfyUI",
    "diffusion_model.": "ComfyUI",
    "text_encoders.clip_l.": "ComfyUI",
    "": "diffusers",
}
"""Whose names a key has, by its start."""

_STARTS: Final = {
    TEXT_ENCODER: ("text_model", "encoder.layers", "encoder_layers"),
    UNET: (
        "down_blocks",
        "mid_block",
        "up_blocks",
        "conv_in",
        "conv_norm_out",
        "conv_out",
        "time_embed",
        "input_blocks",
        "middle_block",
        "output_blocks",
    ),
}
_SPELLINGS: Final = {
    DOWN: (
        "lora_A.weight",
        "lora_A.default.weight",
        "lora.down.weight",
        "lora_linear_layer.down.weight",
    ),
    UP: ("lora_B.weight", "lora_B.default.weight", "lora.up.weight", "lora_linear_layer.up.weight"),
    UP_BIAS: ("lora_B.bias", "lora_B.default.bias"),
    PEFT: (f"{PEFT}.weight", f"{PEFT}.default.weight"),
}
_LORA_ROLES: Final = {
    **{role: role for role in (DOWN, MID, UP, UP_BIAS, LYCORIS, PEFT, *LoHa.roles, *LoKr.roles)},
    **{spelling: role for role, spellings in _SPELLINGS.items() for spelling in spellings},
}
"""The roles that only a LoRA file has, as trainers spell them."""

_ROLES: Final = {**_LORA_ROLES, **{role: role for role in (ALPHA, *WEIGHT_ROLES, *BIAS_ROLES)}}
_PROCESSOR_ROLES: Final = {"_lora.down.weight": DOWN, "_lora.up.weight": UP}
_OLD_TEXT_NAMES: Final = {
    "to_q": "q_proj",
    "to_k": "k_proj",
    "to_v": "v_proj",
    "to_out": "out_proj",
}


@dataclass(frozen=True)
class LoraKey:
    """A key of a LoRA file, taken apart.

    `module` is the key without the role, `component` the network, `path` the layer's name in it,
    with dots where the file has dots, and `role` the tensor's, in LyCORIS' spelling.
    """

    module: str
    component: str
    path: str
    role: str

    @property
    def name(self) -> str:
        """The layer's name with underscores for dots."""
        return self.path.replace(".", "_")


def parse_key(key: str) -> LoraKey | None:
    """Take a key apart; None where it names no network or has no known role."""
    for prefix, component in _FLAT_PREFIXES.items():
        if key.startswith(prefix):
            module, _, role = key.partition(".")
            path = module.removeprefix(prefix)
            network = component or _network_of(path)
            return (
                LoraKey(module, network, path, _ROLES.get(role, role)) if network and role else None
            )
    module, role = _split(key)
    if not role:
        return None
    prefix = next(prefix for prefix in _DOTTED_PREFIXES if module.startswith(prefix))
    path = module.removeprefix(prefix).replace(".processor.", ".")
    network = _DOTTED_PREFIXES[prefix] or _network_of(path)
    return LoraKey(module, network, _modern(network, path), role) if network else None


def namings_of(keys: Iterable[str]) -> tuple[str, ...]:
    """Whose names the keys of a LoRA have, in alphabetical order."""
    found = {next(start for start in _NAMINGS if key.startswith(start)) for key in keys}
    return tuple(sorted({_NAMINGS[start] for start in found}))


def looks_like_lora(keys: Iterable[str]) -> bool:
    """Whether a file with these keys is a LoRA, of any family or naming."""
    flat = ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_", "lora_transformer_", "lycoris_")
    ends = (*(f".{role}" for role in _LORA_ROLES), *_PROCESSOR_ROLES)
    return any(key.startswith(flat) or key.endswith(ends) for key in keys)


def _split(key: str) -> tuple[str, str]:
    """A dotted key's module and role; the role is empty where it is unknown."""
    for end, role in _PROCESSOR_ROLES.items():
        if key.endswith(end):
            return key.removesuffix(end), role
    # Four parts are the longest role: `lora_linear_layer.down.weight` and a part of the module.
    parts = key.rsplit(".", 3)
    for i in range(1, len(parts)):
        role = _ROLES.get(".".join(parts[i:]), "")
        if role:
            return ".".join(parts[:i]), role
    return key, ""


def _network_of(path: str) -> str:
    """The network that a layer's name belongs to; empty where it tells none."""
    for component, starts in _STARTS.items():
        if path.startswith(starts):
            return component
    return ""


def _modern(component: str, path: str) -> str:
    """A path with the names of diffusers' attention processors until 0.18 brought up to date."""
    parent, _, layer = path.rpartition(".")
    if component == TEXT_ENCODER and layer in _OLD_TEXT_NAMES:
        return f"{parent}.{_OLD_TEXT_NAMES[layer]}"
    return f"{path}.0" if component == UNET and layer == "to_out" else path
