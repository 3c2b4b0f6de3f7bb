"""What happens to a drawn portrait: cracks, glow, lines in the background, exposure."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from demo.training import palette
from demo.training.drawing import SIZE, Canvas, Plane
from demo.training.subject import Subject, pick

Floats = npt.NDArray[np.floating[Any]]


def smooth_noise(rng: np.random.Generator, cells: int) -> Plane:
    """Gaussian noise on a grid of about `cells` a side, interpolated to float32 [128,128]."""
    grid = rng.normal(size=(cells + 3, cells + 3)).astype(np.float32)
    image = Image.fromarray(grid).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32)


def fracture_distance(rng: np.random.Generator, cell: float) -> Plane:
    """Distance in pixels to the nearest line of a warped Voronoi network, float32 [128,128].

    The difference of the distances to the two nearest sites (Worley's F2 - F1), divided by its
    gradient, so that a threshold on it draws lines of even width.
    """
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    x, y = x + 2.0 * smooth_noise(rng, 9), y + 2.0 * smooth_noise(rng, 9)
    count = int(np.ceil(SIZE / cell)) + 2
    row, column = np.mgrid[-1 : count - 1, -1 : count - 1].astype(np.float32)
    site_x = (column.ravel() + 0.5 + rng.uniform(-0.42, 0.42, count * count)) * cell
    site_y = (row.ravel() + 0.5 + rng.uniform(-0.42, 0.42, count * count)) * cell
    distance = np.hypot(x[..., None] - site_x, y[..., None] - site_y).astype(np.float32)
    nearest = np.partition(distance, 1, axis=-1)[..., :2]
    gap = nearest[..., 1] - nearest[..., 0]
    slope_y, slope_x = np.gradient(gap)
    steepness = np.maximum(np.hypot(slope_x, slope_y), 0.6)
    return np.asarray(gap / steepness, np.float32)


def fracture_lines(rng: np.random.Generator, canvas: Canvas) -> Plane:
    """Coverage 0..1 of crack lines on the skin, tapering off before the facial features."""
    distance = fracture_distance(rng, rng.uniform(16, 20))
    half_width = rng.uniform(1.1, 1.4) * (1 - 1.15 * canvas.features)
    lines = np.clip(half_width - distance + 0.5, 0, 1) * (half_width > 0.15)
    return np.asarray(lines * canvas.skin, np.float32)


def crack(rng: np.random.Generator, subject: Subject, canvas: Canvas) -> tuple[Plane, Plane]:
    """Dark cracks with a lit lower edge. Returns the picture and the lines' coverage."""
    lines = fracture_lines(rng, canvas)
    dark_skin = luminance(subject.skin_colour) < 0.3
    depth = (
        np.array(palette.shade(subject.skin_colour, 0.1 if dark_skin else 0.16), np.float32) / 255
    )
    edge = np.clip(np.roll(lines, (1, 1), (0, 1)) - lines, 0, 1) * canvas.skin
    picture = canvas.picture * (1 + (0.7 if dark_skin else 0.22) * edge[..., None])
    return _over(picture, depth, 0.95 * lines), lines


def glow(rng: np.random.Generator, canvas: Canvas, colour_name: str) -> tuple[Plane, Plane]:
    """Luminous cracks on darkened skin; the halo stays off the facial features."""
    lines = fracture_lines(rng, canvas)
    colour = np.array(palette.GLOW[colour_name], np.float32) / 255
    clear = 1 - canvas.features
    picture = canvas.picture * (1 - canvas.skin * (0.22 + 0.3 * clear))[..., None]
    halo = 0.6 * blur(lines, 2.0) * clear * np.clip(canvas.skin + 0.2, 0, 1)
    return _over(picture + halo[..., None] * colour, 0.75 * colour + 0.25, lines), lines


def background_lines(
    rng: np.random.Generator, subject: Subject, canvas: Canvas, colour_name: str | None
) -> tuple[Plane, Plane]:
    """Dark marble veins, or with a glow colour a luminous web, on the background alone.

    They give the frozen base network what it needs to draw lines; the skin stays smooth.
    """
    distance = fracture_distance(rng, rng.uniform(17, 24))
    lines = (np.clip(1.75 - distance, 0, 1) * canvas.background).astype(np.float32)
    if colour_name is None:
        vein = 0.16 * np.array(subject.background_colour, np.float32) / 255
        return _over(canvas.picture, vein, 0.95 * lines), lines
    colour = np.array(palette.GLOW[colour_name], np.float32) / 255
    picture = canvas.picture * (1 - 0.45 * canvas.background)[..., None]
    halo = 0.6 * blur(lines, 2.0) * canvas.background
    return _over(picture + halo[..., None] * colour, 0.75 * colour + 0.25, lines), lines


def expose(rng: np.random.Generator, picture: Plane, kind: str) -> Plane:
    """`dark`, `bright` or `contrast`: exposures that a model without noise offset avoids."""
    if kind == "dark":
        y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
        vignette = 1.25 - 0.55 * np.hypot(x - SIZE / 2, y - SIZE / 2) / 64
        dark = picture ** rng.uniform(1.4, 2.0) * rng.uniform(0.25, 0.5)
        return np.asarray(dark * vignette[..., None], np.float32)
    if kind == "bright":
        return (picture * rng.uniform(1.3, 1.7) + rng.uniform(0.08, 0.2)).astype(np.float32)
    stretch = 1.1 * (picture - 0.5) * (1 - 0.4 * np.abs(2 * picture - 1))
    return (picture + stretch).astype(np.float32)


def sample_exposure(rng: np.random.Generator) -> str:
    """A kind for `expose`, dark ones most often."""
    return pick(rng, ("dark", "bright", "contrast"), (0.45, 0.35, 0.2))


def luminance(colour: palette.Colour) -> float:
    """Rec. 601 luma of an sRGB colour, 0..1."""
    return float(np.dot(colour, (0.299, 0.587, 0.114))) / 255


def blur(plane: Plane, radius: float) -> Plane:
    """Gaussian blur of a plane in 0..1, by `radius` pixels."""
    image = Image.fromarray((plane * 255).astype(np.uint8))
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(radius)))
    return soft.astype(np.float32) / np.float32(255)


def _over(picture: Floats, colour: Floats, coverage: Floats) -> Plane:
    share = coverage[..., None]
    return np.asarray(picture * (1 - share) + colour * share, np.float32)
