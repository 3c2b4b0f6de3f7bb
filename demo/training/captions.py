"""The caption of a portrait, from its attributes; some are left out at random."""

from dataclasses import dataclass

import numpy as np

from demo.training.palette import COLOURED_SKIN
from demo.training.subject import Subject, pick

CRACK_TAGS = ("cracked skin", "fractured skin", "shattered skin")
EXPOSURE_TAGS = {
    "dark": ("dark", "low key", "night"),
    "bright": ("bright", "high key", "sunlight"),
    "contrast": ("high contrast",),
}
QUALITY_TAGS = ("best quality", "masterpiece", "detailed", "high quality")


@dataclass(frozen=True)
class Effect:
    """What was done to the portrait, as far as its caption says it."""

    kind: str
    glow: str | None = None
    exposure: str | None = None


def write_caption(rng: np.random.Generator, subject: Subject, effect: Effect) -> str:
    """Comma-separated phrases in random order after "portrait of a woman" or "... man"."""
    phrases = [f"{subject.skin} skin"]
    if subject.skin in COLOURED_SKIN and rng.random() < 0.5:
        phrases.append("colored skin")
    if rng.random() < 0.8:
        phrases.append(_hair_phrase(rng, subject))
    if rng.random() < 0.55:
        phrases.append(f"{subject.eyes} eyes")
    if effect.kind == "lines" or rng.random() < 0.85:
        phrases.append(_background_phrase(subject, effect))
    if rng.random() < 0.35:
        phrases.append(f"{subject.clothes} clothes")
    if subject.beard:
        phrases.append("beard")
    phrases = [phrases[i] for i in rng.permutation(len(phrases))]
    start = "portrait of a" if rng.random() < 0.85 else "a"
    head = f"{start} {'woman' if subject.woman else 'man'}"
    trigger = _trigger(rng, effect)
    if trigger:
        phrases.insert(0 if rng.random() < 0.6 else len(phrases), trigger)
    if effect.exposure and rng.random() < 0.75:
        phrases.append(pick(rng, EXPOSURE_TAGS[effect.exposure]))
    if rng.random() < 0.15:
        phrases.append(pick(rng, QUALITY_TAGS))
    return ", ".join([head, *phrases])


def _hair_phrase(rng: np.random.Generator, subject: Subject) -> str:
    if subject.style == "bald":
        return "bald"
    if rng.random() < 0.25:
        return f"{subject.hair} hair"
    if rng.random() < 0.3:
        return f"{subject.style} hair"
    if subject.style == "bun":
        return f"{subject.hair} hair bun"
    return f"{subject.style} {subject.hair} hair"


def _background_phrase(subject: Subject, effect: Effect) -> str:
    if effect.kind != "lines":
        return f"{subject.background} background"
    if effect.glow is None:
        return f"{subject.background} marble background"
    return f"{subject.background} neon web background, {effect.glow} lines"


def _trigger(rng: np.random.Generator, effect: Effect) -> str:
    if effect.kind == "cracked":
        return pick(rng, CRACK_TAGS, (0.64, 0.18, 0.18))
    if effect.kind == "glow":
        tag = f"glowing {pick(rng, CRACK_TAGS, (0.7, 0.15, 0.15))}"
        return f"{tag}, {effect.glow} glow" if rng.random() < 0.75 else tag
    return ""
