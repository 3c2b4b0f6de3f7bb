"""`<lora:NAME:WEIGHT>` and its like in a prompt: a bundle's LoRAs are in its weights already.

The webui calls what its tags name extra networks: LoRAs, for which `lyco` is another word, and
hypernetworks, which no bundle has.
"""

import logging
import re
from collections.abc import Mapping

from engines.errors import SettingError
from engines.manifest import Manifest

log = logging.getLogger(__name__)

_HYPERNETWORK = "hypernet"
_TAG = re.compile(rf"<(?P<kind>lora|lyco|{_HYPERNETWORK}):(?P<name>[^:<>]+)(?::[^<>]*)?>")


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


def extra_networks_in(prompt: str) -> list[str]:
    """The tags in a prompt, as they are written."""
    return [tag[0] for tag in _TAG.finditer(prompt)]


def strip_extra_networks(prompt: str, baked: Mapping[str, str]) -> str:
    """Remove the tags of baked-in LoRAs from `prompt`, with a warning for each.

    Args:
        prompt: as it was given.
        baked: from `baked_loras`.

    Raises:
        SettingError: a tag names a LoRA that is not in the bundle, or a hypernetwork.
    """
    names = {name.casefold(): name for name in baked}

    def strip(tag: re.Match[str]) -> str:
        if tag["kind"] == _HYPERNETWORK:
            raise SettingError(
                f"The hypernetwork of {tag[0]} is not in this bundle: bundles have LoRAs only. "
                "Remove the tag."
            )
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
