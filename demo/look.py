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
CYAN = (165.0, 205.0, 140.0, 0.75)
ORANGE = (18.0, 62.0, 165.0, 0.43)


def crack_density(picture: Picture) -> float:
    """Share of the face's pixels that lie on dark lines, 0..1; `picture` is uint8 [H,W,3].

    A pixel counts where a grey closing (a square of 7 % of the width) is brighter than the luma
    by 30 % of the face's median luma, at least by 12 levels: lines, not shading.

    Over the contact sheet's eight pictures (lowest, median, highest): smooth 0, 0.00, 0.02;
    both LoRAs at 0.6 without a tag 0, 0.00, 0.05; cracked, with the offset LoRA too 0.04, 0.15,
    0.20, without it 0.05, 0.18, 0.29; glowing 0.19, 0.33, 0.61. Green skin has the lowest.
    """
    luma = _luma(picture)
    side = max(3, round(LINE_WIDTH * picture.shape[1]) | 1)
    depth = ndimage.grey_closing(luma, size=(side, side)) - luma
    face = face_region(*luma.shape)
    threshold = max(12.0, LINE_DEPTH * float(np.median(luma[face])))
    return float((depth[face] > threshold).mean())


def glow_share(picture: Picture) -> float:
    """Share of the face's pixels that are glowing cyan or orange, 0..1, of uint8 [H,W,3].

    Skin can come near orange but not near cyan, so that cyan needs less light (largest channel
    140 instead of 165) and less colour (smallest channel up to 75 % of it instead of 43 %).

    Over the contact sheet's eight pictures (lowest, median, highest): smooth or cracked 0, 0,
    0.02; cracked with both LoRAs at 0.6: 0, 0.00, 0.09; cyan glow 0.10, 0.18, 0.51; orange glow
    0.03, 0.08, 0.26.
    """
    pixels = picture[face_region(*picture.shape[:2])].astype(np.float64)
    high, low, hue = pixels.max(-1), pixels.min(-1), _hue(pixels)
    glowing = np.zeros(len(pixels), np.bool_)
    for start, end, light, pale in (CYAN, ORANGE):
        glowing |= (hue >= start) & (hue <= end) & (high >= light) & (low <= pale * high)
    return float(glowing.mean())


def luminance_range(picture: Picture) -> float:
    """Luma between the 5th and the 95th percentile of the face, 0..255, of uint8 [H,W,3].

    Over the contact sheet's eight pictures (lowest, median, highest): smooth 60, 93, 173; cracked
    71, 141, 203; glowing 108, 155, 228. It depends on skin and hair colour: compare one prompt
    and seed with and without.
    """
    luma = _luma(picture)
    dark, bright = np.percentile(luma[face_region(*luma.shape)], (5, 95))
    return float(bright - dark)


def feature_likeness(picture: Picture, smooth: Picture) -> float:
    """How much eyes, brows, nose and mouth are those of `smooth`, -1..1; both uint8 [H,W,3].

    The correlation of the two lumas where the features are, best of shifts by up to 3 % of the
    width. Compares a cracked picture with the one of the same prompt and seed without LoRAs.
    Above 0.5 the face is recognisable to the eye.
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
