"""The pictures on which a bundle is compared with diffusers: fixed prompts and seeds."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final

PICTURES: Final = 2
"""How many are compared by default: two prompts, for one could be lucky."""

MOST_PICTURES: Final = 1000

STEPS: Final = 8
"""Of DPM++ 2M Karras: enough for the look, and for errors to add up, at a bearable cost."""

_PROMPTS: Final = (
    "cracked skin, portrait of a woman, blue hair, orange background",
    "glowing cracked skin, portrait of a man, dark skin, night",
    "a red house beside a lake, mountains, clear sky",
    "a bowl of fruit on a wooden table",
)


@dataclass(frozen=True)
class Case:
    """What is drawn: `seed` is that of torch's CPU generator."""

    prompt: str
    seed: int


def picture_cases(count: int) -> Iterator[Case]:
    """The first `count` cases: the prompts in turn, each with a seed of its own."""
    for seed, prompt in enumerate(islice(cycle(_PROMPTS), count), start=1):
        yield Case(prompt, seed)
