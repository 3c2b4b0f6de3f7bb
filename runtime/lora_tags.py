"""`<lora:NAME:WEIGHT>` in a prompt: the LoRAs are in the bundle's weights already."""

import logging
import re
from collections.abc import Mapping

from engines.errors import SettingError
from engines.manifest import Manifest

log = logging.getLogger(__name__)

_TAG = re.compile(r"<lora:(?P<name>[^:<>]+)(?::[^<>]*)?>")


def baked_loras(manifest: Manifest) -> dict[str, str]:
    """The weight, in words, of each LoRA that was fused into the bundle, by its name."""
    loras = manifest.provenance.get("loras")
    if not isinstance(loras, list):
        return {}
    return {
        str(lora["name"]): str(lora.get("weight", "an unrecorded weight"))
        for lora in loras
        if isinstance(lora, dict) and "name" in lora
    }


def strip_lora_tags(prompt: str, baked: Mapping[str, str]) -> str:
    """Remove the tags of baked-in LoRAs from `prompt`, with a warning for each.

    Raises:
        SettingError: a tag names a LoRA that is not in the bundle.
    """
    names = {name.casefold(): name for name in baked}

    def strip(tag: re.Match[str]) -> str:
        name = names.get(tag["name"].strip().casefold())
        if name is None:
            known = ", ".join(baked) or "none"
            raise SettingError(
                f"The LoRA of {tag[0]} is not in this bundle (in it: {known}). Remove the tag, "
                "or fuse and export a bundle with that LoRA."
            )
        log.warning("%s is ignored: %s is in the bundle already, at %s", tag[0], name, baked[name])
        return ""

    return _TAG.sub(strip, prompt)
