"""OpenAI's image requests, and what they mean here.

Their parameters that only name OpenAI's own models' qualities are taken and have no effect; those
that would change the picture are done or refused. `negative_prompt`, `seed`, `steps`, `cfg`,
`sampler`, `schedule` and `preset` are ours, for clients that send an `extra_body`. Parameters
that nobody knows are refused, as OpenAI does.
"""

import dataclasses
import re
from typing import Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from engines.errors import SettingError
from engines.manifest import Manifest
from runtime.init_settings import InitSettings, MaskSettings
from runtime.request import Request
from runtime.resize import CROP
from runtime.server.faults import Fault, FaultError, Kind
from runtime.server.given_pictures import mask_of_transparency
from runtime.server.numbers import Whole
from runtime.source_picture import SourcePicture

VARIATION_STRENGTH = 0.6
"""How much a picture changes where neither a mask nor a strength says it."""

Quality = Literal["low", "medium", "high", "xhigh", "max"]
"""What answers may name; requests may also name those of models that are no more, or none."""

MOST = 10
"""Pictures of one request, as OpenAI has it."""

_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")


class CommonBody(BaseModel):
    """What every image request may say."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    n: int | None = Field(1, ge=1, le=MOST)
    size: str | None = Field("auto", description="WxH in pixels, or auto")
    response_format: Literal["b64_json", "url"] | None = "b64_json"
    quality: Literal[Quality, "auto", "standard", "hd"] | None = Field(
        None, description="without effect"
    )
    style: Literal["vivid", "natural"] | None = Field(None, description="without effect")
    background: Literal["auto", "opaque", "transparent"] | None = None
    moderation: Literal["auto", "low"] | None = Field(None, description="without effect")
    output_format: Literal["png", "jpeg", "webp"] | None = "png"
    output_compression: int | None = Field(None, ge=0, le=100)
    user: str | None = Field(None, description="without effect")
    safety_identifier: str | None = Field(None, description="without effect")
    complexity: Literal["low", "medium", "high"] | None = Field(None, description="without effect")
    stream: bool | None = False
    partial_images: int | None = Field(0, ge=0, le=3)
    negative_prompt: str | None = None
    seed: Whole | None = None
    steps: Whole | None = None
    cfg: float | None = None
    sampler: str | None = None
    schedule: str | None = None
    preset: str | None = None


class GenerationBody(CommonBody):
    """`POST /v1/images/generations`."""

    prompt: str


class ChangeBody(CommonBody):
    """The fields, beside the pictures, of `POST /v1/images/edits` and `/v1/images/variations`.

    `strength` is ours. The default is all of it where a mask says what is painted.
    """

    prompt: str = ""
    strength: float | None = None
    input_fidelity: Literal["high", "low"] | None = Field(None, description="without effect")


def read_change(
    body: ChangeBody, image: Image.Image, mask: Image.Image | None, manifest: Manifest
) -> Request:
    """What a request to change a picture means.

    What is fully transparent in the mask is painted; without a mask, in the picture itself.

    Raises:
        FaultError: the model is another.
        SettingError: it asks for something that is not here, or the mask does not fit.
    """
    request = read_common(body, body.prompt, manifest)
    painted = mask_of_transparency(image if mask is None else mask)
    if painted is None and mask is not None:
        raise SettingError("mask: nothing in it is transparent; what is transparent is painted.")
    strength = body.strength
    if strength is None:
        strength = VARIATION_STRENGTH if painted is None else 1.0
    init = InitSettings(
        # what the mask leaves shows through, whatever its colour there
        picture=SourcePicture.from_image(image if mask is not None else _opaque(image)),
        strength=strength,
        resize=CROP,
        mask=None if painted is None else MaskSettings(painted),
    )
    return dataclasses.replace(request, init=init)


def _opaque(image: Image.Image) -> Image.Image:
    """The colours as they are, transparent or not."""
    return image.convert("RGBA").convert("RGB") if image.has_transparency_data else image


def read_common(body: CommonBody, prompt: str, manifest: Manifest) -> Request:
    """What a request means here.

    Raises:
        FaultError: the model is another.
        SettingError: it asks for something that is not here.
    """
    check_model(body.model, manifest)
    if body.background == "transparent":
        raise SettingError("background: these pictures are opaque; choose auto or opaque.")
    if body.output_compression is not None and body.output_format == "png":
        raise SettingError("output_compression: only jpeg and webp have one.")
    if body.stream and (body.n or 1) > 1:
        raise SettingError("stream: one picture at a time; choose n = 1.")
    width, height = _read_size(body.size)
    return Request(
        prompt=prompt,
        negative=body.negative_prompt,
        preset=body.preset,
        seed=body.seed,
        steps=body.steps,
        cfg=body.cfg,
        sampler=body.sampler,
        schedule=body.schedule,
        width=width,
        height=height,
        count=body.n or 1,
    )


def check_model(name: str | None, manifest: Manifest) -> None:
    """Refuse another model than the one that is served.

    Raises:
        FaultError: the name is not the bundle's.
    """
    if name not in (None, "", manifest.name):
        message = f"The model {name!r} is not here; this server has {manifest.name!r} only."
        raise FaultError(Fault(Kind.NOT_FOUND, message, field="model"))


def _read_size(size: str | None) -> tuple[int | None, int | None]:
    if size in (None, "", "auto"):
        return None, None
    match = _SIZE.fullmatch(str(size))
    if match is None:
        raise SettingError(f"size: {str(size)[:40]!r} is not a size such as 512x768, nor auto.")
    return int(match[1]), int(match[2])
