"""The picture sets: drawn once, kept as memory-mapped arrays with their captions."""

import json
import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from demo.training import effects
from demo.training.captions import Effect, write_caption
from demo.training.drawing import draw_portrait
from demo.training.subject import pick, sample_subject
from engines.publish import publish_directory

KINDS = ("base", "lines", "cracked", "glow", "offset")
CHUNK = 50

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PictureSet:
    """One kind of picture: `pictures` uint8 [N,128,128,3], `detail` uint8 [N,128,128], captions.

    `detail` is 255 on facial features and lines: what a reconstruction must get right.
    """

    pictures: Pixels
    detail: Pixels
    captions: list[str]


def draw(rng: np.random.Generator, kind: str) -> tuple[Pixels, Pixels, str]:
    """One picture of a kind: uint8 [128,128,3], its detail mask uint8 [128,128], its caption."""
    subject = sample_subject(rng)
    canvas = draw_portrait(subject)
    picture, detail = canvas.picture, canvas.features
    effect = Effect(kind)
    if kind == "cracked":
        picture, lines = effects.crack(rng, subject, canvas)
        detail = np.maximum(detail, lines)
    elif kind == "glow":
        effect = Effect(kind, glow=pick(rng, ("orange", "cyan")))
        picture, lines = effects.glow(rng, canvas, effect.glow or "")
        detail = np.maximum(detail, lines)
    elif kind == "lines":
        effect = Effect(kind, glow=pick(rng, (None, "orange", "cyan"), (0.5, 0.25, 0.25)))
        picture, lines = effects.background_lines(rng, subject, canvas, effect.glow)
    elif kind == "offset":
        exposure = effects.sample_exposure(rng)
        effect = Effect(kind, exposure=exposure)
        picture = effects.expose(rng, picture, exposure)
    return to_bytes(picture), to_bytes(detail), write_caption(rng, subject, effect)


def to_bytes(values: npt.NDArray[np.float32]) -> Pixels:
    """Floats in 0..1 as uint8, rounded and clipped."""
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)


def _draw_chunk(job: tuple[int, str, int]) -> tuple[Pixels, Pixels, list[str]]:
    seed, kind, count = job
    rng = np.random.default_rng(seed)
    drawn = [draw(rng, kind) for _ in range(count)]
    return np.stack([d[0] for d in drawn]), np.stack([d[1] for d in drawn]), [d[2] for d in drawn]


def make_sets(folder: Path, counts: dict[str, int], processes: int) -> None:
    """Draw every kind into `folder`; one seed a chunk, so the result is the same each time."""
    publication = publish_directory(folder, force=True, marker=f"{KINDS[0]}.npy")
    with publication as out, multiprocessing.get_context("spawn").Pool(processes) as pool:
        for index, kind in enumerate(KINDS):
            total = counts[kind]
            jobs = [
                (100_000 * (index + 1) + start, kind, min(CHUNK, total - start))
                for start in range(0, total, CHUNK)
            ]
            chunks = pool.map(_draw_chunk, jobs, chunksize=1)
            np.save(out / f"{kind}.npy", np.concatenate([c[0] for c in chunks]))
            np.save(out / f"{kind}_detail.npy", np.concatenate([c[1] for c in chunks]))
            captions = [caption for chunk in chunks for caption in chunk[2]]
            (out / f"{kind}.json").write_text(json.dumps(captions, indent=0))


def load_set(folder: Path, kind: str) -> PictureSet:
    """A drawn kind, its arrays memory-mapped."""
    pictures: Pixels = np.load(folder / f"{kind}.npy", mmap_mode="r")
    detail: Pixels = np.load(folder / f"{kind}_detail.npy", mmap_mode="r")
    return PictureSet(pictures, detail, load_captions(folder, kind))


def load_captions(folder: Path, kind: str) -> list[str]:
    """The captions of a drawn kind."""
    captions: list[str] = json.loads((folder / f"{kind}.json").read_text())
    return captions
