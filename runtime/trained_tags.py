"""The trained tags of the look's LoRA, put into a prompt: all, the most frequent ones, or none."""

import logging
import re

from engines.errors import SettingError
from engines.manifest import Manifest
from engines.tags import read_tag_count
from runtime.prompt import parse_prompt

log = logging.getLogger(__name__)

_SYNTAX = re.compile(r"[\\()\[\]]")
_KEYWORD = re.compile(r"\b(?:AND|BREAK)\b")
_DIVIDER = re.compile(r"[,|\n]")


def trained_tags(manifest: Manifest, asked: str | None, preset: str) -> list[str]:
    """The tags that go into a prompt, the most frequent first.

    They are those of the first LoRA of the bundle that has any: its look.

    Args:
        manifest: the bundle's.
        asked: what the request says, as `read_tag_count` reads it; None where it says nothing.
        preset: what the preset says, likewise.

    Raises:
        SettingError: the request asks for tags, and the bundle knows none.
    """
    count = read_tag_count(preset if asked is None else asked)
    if count == 0:
        return []
    tags = next((list(tags) for tags in manifest.trained_tags.values() if tags), [])
    if not tags:
        fault = f"{manifest.name} knows no trained tags: its LoRAs do not record them"
        if asked is not None:
            raise SettingError(f"{fault}. Leave --tags out, and write them into the prompt.")
        log.warning("%s", fault)
    return tags[:count]


def add_tags(tags: list[str], *texts: str) -> str:
    """Those tags that are not in one of the texts yet, as text of the prompt grammar."""
    there = {item.strip().casefold() for text in texts for item in _DIVIDER.split(_plain(text))}
    return ", ".join(escape(tag) for tag in tags if tag.casefold() not in there)


def escape(text: str) -> str:
    """Text as the prompt grammar means it literally, but for AND and BREAK, which lose capitals."""
    escaped = _SYNTAX.sub(lambda match: f"\\{match[0]}", text)
    return _KEYWORD.sub(lambda match: match[0].lower(), escaped)


def _plain(prompt: str) -> str:
    return "\n".join("".join(span.text for span in section) for section in parse_prompt(prompt))
