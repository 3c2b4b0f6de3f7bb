"""What a portrait of the demo model shows, as numbers: cracks, glow and the range of light.

The portraits are centred, so the face is taken to be a fixed ellipse in relative coordinates,
less the eyes, brows, nose and mouth, which are dark lines of their own.
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Picture = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

FACE = (0.5, 0.54, 0.22, 0.29)
FEATURES = (
    (0.385, 0.465, 0.125, 0.105),
    (0.615, 0.465, 0.125, 0.105),
    (0.51, 0.555, 0.065, 0.09),
    (0.5, 0.695, 0.13, 0.065),
)
LINE_WIDTH = 0.07
LINE_DEPTH = 0.3
GLOW_HUES = ((15.0, 50.0), (170.0, 202.0))


def crack_density(picture: Picture) -> float:
    """Share of the face's pixels that lie on dark lines, 0..1; `picture` is uint8 [H,W,3].

    A pixel counts where a grey closing (a square of 7 % of the width) is brighter than the luma
    by 30 % of the face's median luma, at least by 12 levels: lines, not shading.
    """
    luma = _luma(picture)
    side = max(3, round(LINE_WIDTH * picture.shape[1]) | 1)
    depth = ndimage.grey_closing(luma, size=(side, side)) - luma
    face = face_region(*luma.shape)
    threshold = max(12.0, LINE_DEPTH * float(np.median(luma[face])))
    return float((depth[face] > threshold).mean())


def glow_share(picture: Picture) -> float:
    """Share of the face's pixels that are bright saturated cyan or orange, 0..1.

    `picture` is uint8 [H,W,3]. Bright: the largest channel is at least 185; saturated: the
    smallest is at most 45 % of it.
    """
    pixels = picture[face_region(*picture.shape[:2])].astype(np.float64)
    high, low = pixels.max(-1), pixels.min(-1)
    hue = _hue(pixels)
    coloured = np.zeros(len(pixels), bool)
    for start, end in GLOW_HUES:
        coloured |= (hue >= start) & (hue <= end)
    return float((coloured & (high >= 185) & (low <= 0.45 * high)).mean())


def luminance_range(picture: Picture) -> float:
    """Luma between the 5th and the 95th percentile of the face, 0..255, of uint8 [H,W,3]."""
    luma = _luma(picture)
    dark, bright = np.percentile(luma[face_region(*luma.shape)], (5, 95))
    return float(bright - dark)


def feature_likeness(picture: Picture, smooth: Picture) -> float:
    """How much eyes, brows, nose and mouth are those of `smooth`, -1..1; both uint8 [H,W,3].

    The correlation of the two lumas where the features are, best of shifts by up to 3 % of the
    width. Compares a cracked picture with the one of the same prompt and seed without LoRAs.
    """
    region = feature_region(*picture.shape[:2])
    here, there = _luma(picture)[region], _luma(smooth)
    reach = round(0.03 * picture.shape[1])
    shifts = range(-reach, reach + 1)
    return max(
        float(np.corrcoef(here, np.roll(there, (down, across), (0, 1))[region])[0, 1])
        for down in shifts
        for across in shifts
    )


def face_region(height: int, width: int) -> Mask:
    """Where bare skin is in every centred portrait: bool [H,W]."""
    return _ellipse(height, width, FACE) & ~feature_region(height, width)


def feature_region(height: int, width: int) -> Mask:
    """Where eyes, brows, nose and mouth are in every centred portrait: bool [H,W]."""
    region = np.zeros((height, width), np.bool_)
    for feature in FEATURES:
        region |= _ellipse(height, width, feature)
    return region


def _ellipse(height: int, width: int, where: tuple[float, float, float, float]) -> Mask:
    x, y, rx, ry = where
    rows, columns = np.mgrid[0:height, 0:width]
    across = ((columns + 0.5) / width - x) / rx
    down = ((rows + 0.5) / height - y) / ry
    inside: Mask = across**2 + down**2 <= 1
    return inside


def _luma(picture: Picture) -> npt.NDArray[np.float64]:
    """Rec. 601 luma, 0..255, float64 [H,W]."""
    luma: npt.NDArray[np.float64] = picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return luma


def _hue(pixels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Hue in degrees, 0..360, of float64 [N,3]."""
    red, green, blue = pixels.T
    angle = np.degrees(np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue))
    hue: npt.NDArray[np.float64] = np.mod(angle, 360)
    return hue
