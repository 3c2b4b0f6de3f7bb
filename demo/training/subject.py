"""Who a portrait shows: the attributes, sampled before anything is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from demo.training import palette
from demo.training.palette import Colour

T = TypeVar("T")


def pick(rng: np.random.Generator, values: Sequence[T], shares: Sequence[float] | None = None) -> T:
    """One of `values`, with probabilities `shares` where given."""
    return values[int(rng.choice(len(values), p=shares))]


@dataclass(frozen=True)
class Subject:
    """One sitter. Lengths are in units of 1/128 of an unzoomed picture."""

    woman: bool
    skin: str
    hair: str
    eyes: str
    background: str
    clothes: str
    style: str
    beard: bool
    skin_colour: Colour
    hair_colour: Colour
    background_colour: Colour
    clothes_colour: Colour
    backdrop: str
    v_neck: bool
    parting: float
    light_from: int
    centre_x: float
    centre_y: float
    face_width: float
    face_height: float
    scale: float


def sample_subject(rng: np.random.Generator) -> Subject:
    """A random sitter; every attribute is independent but hair style and beard of the sex."""
    woman = bool(rng.random() < 0.6)
    skin = pick(rng, list(palette.SKIN), palette.SKIN_SHARES)
    hair, eyes = pick(rng, list(palette.HAIR)), pick(rng, list(palette.EYES))
    background, clothes = pick(rng, list(palette.BACKGROUND)), pick(rng, list(palette.CLOTHES))
    styles = (
        (("long", "short", "bun"), (0.55, 0.3, 0.15))
        if woman
        else (("short", "bald", "long"), (0.65, 0.22, 0.13))
    )
    scale = rng.uniform(0.97, 1.04)
    return Subject(
        woman=woman,
        skin=skin,
        hair=hair,
        eyes=eyes,
        background=background,
        clothes=clothes,
        style=pick(rng, *styles),
        beard=bool(not woman and rng.random() < 0.3),
        skin_colour=palette.jitter(rng, pick(rng, palette.SKIN[skin]), 5),
        hair_colour=palette.jitter(rng, palette.HAIR[hair]),
        background_colour=palette.jitter(rng, palette.BACKGROUND[background]),
        clothes_colour=palette.jitter(rng, palette.CLOTHES[clothes]),
        backdrop=pick(rng, ("plain", "vertical", "radial")),
        v_neck=bool(rng.random() < 0.6),
        parting=rng.uniform(-8, 8),
        light_from=pick(rng, (-1, 1)),
        centre_x=64 + rng.normal(0, 1.2),
        centre_y=58 + rng.normal(0, 1.2),
        face_width=(27 if woman else 29) * scale * rng.uniform(0.98, 1.02),
        face_height=36 * scale * rng.uniform(0.98, 1.02),
        scale=scale,
    )
