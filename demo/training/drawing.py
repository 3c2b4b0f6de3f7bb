"""Draws a sitter with smooth skin, and the masks that the skin effects need."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from demo.training.palette import EYES, Colour, mix, shade
from demo.training.subject import Subject

SIZE = 128
OVERSAMPLE = 3
ZOOM = 1.28
MIDDLE = (64.0, 62.0)

Plane = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Canvas:
    """A drawn portrait: `picture` float32 [128,128,3] in 0..1, masks float32 [128,128] in 0..1.

    `features` covers eyes, brows, nose and mouth with a soft border; `skin` leaves out hair,
    beard, eyes and lips.
    """

    picture: Plane
    skin: Plane
    features: Plane
    background: Plane


class _Pen:
    """Draws in the sitter's units on the oversampled picture and on the masks at once."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.side = SIZE * OVERSAMPLE
        self.picture = _backdrop(subject, self.side)
        self.empty = self.picture.copy()
        self.skin = Image.new("L", self.picture.size, 0)
        self.features = Image.new("L", self.picture.size, 0)

    def at(self, *coordinates: float) -> list[float]:
        """Alternating x, y in the sitter's units, as pixels of the oversampled picture."""
        middle, origin = MIDDLE, (64.0, 58.0)
        return [
            (middle[i % 2] + (v - origin[i % 2]) * ZOOM) * OVERSAMPLE
            for i, v in enumerate(coordinates)
        ]

    def width(self, units: float) -> int:
        """A line's width in pixels."""
        return round(units * OVERSAMPLE * ZOOM)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, fill: Colour, skin: int | None = None
    ) -> None:
        """An ellipse; `skin` is what it means to the skin mask (0, 255 or untouched)."""
        box = self.at(x - rx, y - ry, x + rx, y + ry)
        ImageDraw.Draw(self.picture).ellipse(box, fill=fill)
        if skin is not None:
            ImageDraw.Draw(self.skin).ellipse(box, fill=skin)

    def polygon(self, points: tuple[float, ...], fill: Colour) -> None:
        """A polygon of skin."""
        ImageDraw.Draw(self.picture).polygon(self.at(*points), fill=fill)
        ImageDraw.Draw(self.skin).polygon(self.at(*points), fill=255)

    def line(self, points: tuple[float, ...], fill: Colour, width: float) -> None:
        """A connected line."""
        pen = ImageDraw.Draw(self.picture)
        pen.line(self.at(*points), fill=fill, width=self.width(width), joint="curve")

    def paste(self, fill: Image.Image | Colour, where: Image.Image) -> None:
        """Cover `where`, which is then no longer skin."""
        self.picture.paste(fill, (0, 0, *self.picture.size), where)
        self.skin.paste(0, (0, 0, *self.skin.size), where)

    def keep_clear(self, x: float, y: float, rx: float, ry: float) -> None:
        """Mark a facial feature's surroundings."""
        ImageDraw.Draw(self.features).ellipse(self.at(x - rx, y - ry, x + rx, y + ry), fill=255)


def draw_portrait(subject: Subject) -> Canvas:
    """The sitter with smooth skin, lit from one side."""
    pen = _Pen(subject)
    _draw_back_hair(pen)
    _draw_body(pen)
    _draw_head(pen)
    _draw_eyes(pen)
    _draw_nose(pen)
    if subject.beard:
        _draw_beard(pen)
    _draw_mouth(pen)
    if subject.style != "bald":
        _draw_front_hair(pen)
    untouched = (np.asarray(pen.picture) == np.asarray(pen.empty)).all(-1)
    skin = _plane(pen.skin)
    features = pen.features.filter(ImageFilter.GaussianBlur(1.6 * OVERSAMPLE))
    return Canvas(
        picture=_lit(subject, _picture(pen.picture), skin),
        skin=skin,
        features=_plane(features),
        background=_plane(Image.fromarray((untouched * 255).astype(np.uint8))),
    )


def _picture(image: Image.Image) -> Plane:
    small = image.resize((SIZE, SIZE), Image.Resampling.BOX)
    return np.asarray(small).astype(np.float32) / np.float32(255)


def _plane(image: Image.Image) -> Plane:
    small = image.resize((SIZE, SIZE), Image.Resampling.BOX)
    return np.asarray(small).astype(np.float32) / np.float32(255)


def _backdrop(subject: Subject, side: int) -> Image.Image:
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    light = np.ones((side, side), np.float32)
    if subject.backdrop == "vertical":
        light = 1.12 - 0.3 * y
    elif subject.backdrop == "radial":
        light = 1.15 - 0.6 * np.sqrt((x - 0.5) ** 2 + (y - 0.42) ** 2)
    colour = np.array(subject.background_colour, np.float32)
    return Image.fromarray(np.clip(colour * light[..., None], 0, 255).astype(np.uint8))


def _draw_back_hair(pen: _Pen) -> None:
    who, x, y = pen.subject, pen.subject.centre_x, pen.subject.centre_y
    width, height = who.face_width, who.face_height
    if who.style == "long":
        colour = shade(who.hair_colour, 0.8)
        brush = ImageDraw.Draw(pen.picture)
        brush.ellipse(
            pen.at(x - width - 8, y - height - 7, x + width + 8, y + height * 0.6), fill=colour
        )
        brush.rounded_rectangle(
            pen.at(x - width - 8, y - 8, x + width + 8, y + height + 22), 10 * OVERSAMPLE, colour
        )
    elif who.style == "bun":
        pen.ellipse(x, y - height - 6, 11, 9, shade(who.hair_colour, 0.85))


def _draw_body(pen: _Pen) -> None:
    who, x, y = pen.subject, pen.subject.centre_x, pen.subject.centre_y
    neck = 11 if who.woman else 15
    shoulders = (44 if who.woman else 52) * who.scale
    collar = y + who.face_height + 5
    pen.polygon(
        (x - neck, y + 20, x + neck, y + 20, x + neck + 2, 130, x - neck - 2, 130),
        shade(who.skin_colour, 0.84),
    )
    pen.ellipse(x, collar + 26, shoulders, 27, who.clothes_colour, skin=0)
    if who.v_neck:
        pen.polygon(
            (x - neck - 5, collar + 1, x + neck + 5, collar + 1, x, collar + 20),
            shade(who.skin_colour, 0.84),
        )
    else:
        pen.ellipse(x, collar, neck + 4, 4, shade(who.skin_colour, 0.8), skin=255)


def _draw_head(pen: _Pen) -> None:
    who = pen.subject
    if who.style != "long":
        for side in (-1, 1):
            ear = who.centre_x + side * who.face_width
            pen.ellipse(ear, who.centre_y + 3, 4, 7, shade(who.skin_colour, 0.9), skin=255)
    pen.ellipse(
        who.centre_x, who.centre_y, who.face_width, who.face_height, who.skin_colour, skin=255
    )


def _draw_eyes(pen: _Pen) -> None:
    who, y = pen.subject, pen.subject.centre_y - 1
    brow = shade(who.hair_colour, 0.6) if who.style != "bald" else (50, 40, 36)
    rim: Colour = (30, 22, 22) if who.woman else shade(who.skin_colour, 0.45)
    for side in (-1, 1):
        x = who.centre_x + side * who.face_width * 0.43
        pen.ellipse(x, y, 7.8, 4.8, rim, skin=0)
        pen.ellipse(x, y + 0.3, 7.0, 3.9, (242, 240, 238))
        pen.ellipse(x, y + 0.2, 4.0, 4.0, EYES[who.eyes])
        pen.ellipse(x, y + 0.2, 1.9, 1.9, (12, 12, 14))
        pen.ellipse(x + 1.3, y - 1.2, 0.9, 0.9, (255, 255, 255))
        top = y - 9 + (0 if who.woman else 0.5)
        pen.line(
            (x - side * 6.5, top + 1, x, top - 1.4, x + side * 7.5, top + 0.9),
            brow,
            2.2 if who.woman else 3.0,
        )
        pen.keep_clear(x, y - 2.6, 10.0, 9.6)


def _draw_nose(pen: _Pen) -> None:
    x, y = pen.subject.centre_x, pen.subject.centre_y
    pen.line(
        (x + 1, y + 2, x + 3.4, y + 11.5, x - 1.5, y + 12.5),
        shade(pen.subject.skin_colour, 0.68),
        1.8,
    )
    pen.keep_clear(x + 1, y + 7, 5.6, 8.4)


def _draw_beard(pen: _Pen) -> None:
    who, x, y = pen.subject, pen.subject.centre_x, pen.subject.centre_y
    where = Image.new("L", pen.picture.size, 0)
    brush = ImageDraw.Draw(where)
    width, height = who.face_width, who.face_height
    brush.ellipse(pen.at(x - width + 1, y - height + 2, x + width - 1, y + height), fill=255)
    brush.rectangle(pen.at(-40, -40, 168, y + 16), fill=0)
    brush.ellipse(pen.at(x - 8, y + 13, x + 8, y + 20), fill=0)
    pen.paste(shade(who.hair_colour, 0.85), where)


def _draw_mouth(pen: _Pen) -> None:
    who, x, y = pen.subject, pen.subject.centre_x, pen.subject.centre_y + 21
    lips = mix(who.skin_colour, (178, 40, 52) if who.woman else (120, 60, 56), 0.6)
    width, height = (9.5, 3.8) if who.woman else (10.0, 2.8)
    pen.ellipse(x, y, width, height, lips, skin=0)
    pen.line((x - width + 1, y, x + width - 1, y), shade(lips, 0.45), 1.2)
    pen.keep_clear(x, y, 12.0, 6.0)


def _draw_front_hair(pen: _Pen) -> None:
    who, x, y = pen.subject, pen.subject.centre_x, pen.subject.centre_y
    width, height = who.face_width, who.face_height
    where = Image.new("L", pen.picture.size, 0)
    brush = ImageDraw.Draw(where)
    lift = 4 if who.style == "bun" else 7
    brush.ellipse(
        pen.at(x - width - 4, y - height - lift, x + width + 4, y + height * 0.75), fill=255
    )
    shift = who.parting * 0.3
    brush.ellipse(
        pen.at(
            x - width * 0.93 + shift, y - height * 0.55, x + width * 0.93 + shift, y + 2 * height
        ),
        fill=0,
    )
    ends = y + (14 if who.style == "long" else 2 if who.woman else -6)
    brush.rectangle(pen.at(-40, ends, 168, 168), fill=0)
    rows = np.arange(pen.side, dtype=np.float32)[:, None]
    top = pen.at(0, y - height + 4)[1]
    sheen = 1 + 0.16 * np.exp(-(((rows - top) / (9 * OVERSAMPLE)) ** 2))
    tone = np.clip(np.array(who.hair_colour, np.float32) * sheen[..., None], 0, 255)
    pen.paste(
        Image.fromarray(np.broadcast_to(tone, (pen.side, pen.side, 3)).astype(np.uint8)), where
    )


def _lit(subject: Subject, picture: Plane, skin: Plane) -> Plane:
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    across = (x - MIDDLE[0] - (subject.centre_x - 64) * ZOOM) / (subject.face_width * ZOOM)
    down = (y - MIDDLE[1] - (subject.centre_y - 58) * ZOOM) / (subject.face_height * ZOOM)
    light = 0.18 * np.clip(subject.light_from * across, -1.2, 1.2) - 0.1 * np.clip(down, -1, 1.5)
    lit: Plane = np.clip(picture * (1 + (skin * light)[..., None]), 0, 1).astype(np.float32)
    return lit
