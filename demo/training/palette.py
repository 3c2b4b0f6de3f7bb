"""The named colours of the procedural portraits, sRGB 0..255."""

import numpy as np

Colour = tuple[int, int, int]

SKIN: dict[str, tuple[Colour, Colour]] = {
    "pale": ((244, 214, 196), (248, 222, 208)),
    "light": ((232, 188, 158), (226, 180, 146)),
    "tan": ((200, 146, 104), (190, 134, 92)),
    "brown": ((150, 98, 66), (136, 88, 58)),
    "dark": ((92, 60, 44), (80, 52, 40)),
    "blue": ((72, 118, 196), (92, 140, 210)),
    "green": ((84, 160, 92), (104, 176, 100)),
    "purple": ((140, 92, 180), (154, 108, 196)),
    "red": ((196, 70, 62), (184, 60, 60)),
    "grey": ((150, 152, 158), (134, 138, 146)),
}
SKIN_SHARES = (0.15, 0.13, 0.11, 0.10, 0.13, 0.09, 0.08, 0.07, 0.08, 0.06)
COLOURED_SKIN = frozenset({"blue", "green", "purple", "red", "grey"})

HAIR: dict[str, Colour] = {
    "black": (28, 24, 26),
    "brown": (92, 58, 36),
    "blonde": (222, 184, 104),
    "red": (170, 66, 32),
    "white": (228, 228, 230),
    "blue": (46, 70, 150),
    "pink": (226, 120, 170),
}
EYES: dict[str, Colour] = {
    "brown": (96, 58, 30),
    "blue": (60, 120, 200),
    "green": (60, 150, 80),
    "red": (200, 40, 30),
    "yellow": (220, 180, 40),
}
BACKGROUND: dict[str, Colour] = {
    "red": (170, 44, 44),
    "blue": (50, 84, 160),
    "green": (60, 124, 72),
    "grey": (128, 130, 134),
    "white": (232, 232, 230),
    "black": (26, 26, 30),
    "orange": (220, 130, 50),
    "purple": (104, 66, 140),
    "teal": (40, 130, 134),
    "yellow": (224, 196, 84),
}
CLOTHES: dict[str, Colour] = {
    "white": (226, 226, 224),
    "black": (34, 34, 38),
    "red": (160, 40, 44),
    "blue": (46, 66, 130),
    "green": (50, 104, 62),
    "grey": (110, 112, 118),
}
GLOW: dict[str, Colour] = {"orange": (255, 140, 20), "cyan": (40, 235, 255)}


def jitter(rng: np.random.Generator, colour: Colour, spread: float = 8.0) -> Colour:
    """`colour` moved by Gaussian noise of `spread` levels a channel."""
    r, g, b = (int(np.clip(v + rng.normal(0, spread), 0, 255)) for v in colour)
    return r, g, b


def shade(colour: Colour, factor: float) -> Colour:
    """`colour` multiplied by `factor`, clipped to 0..255."""
    r, g, b = (int(np.clip(v * factor, 0, 255)) for v in colour)
    return r, g, b


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """`one` and `other` blended, `share` of the other."""
    r, g, b = (int((1 - share) * u + share * v) for u, v in zip(one, other, strict=True))
    return r, g, b
