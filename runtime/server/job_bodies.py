"""What a job of our own protocol asks for, and what it means.

The fields are those of `runtime.request.Request`; pictures are base64 or data URLs.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from runtime.guidance import GuidanceSettings
from runtime.hires import HiresSettings
from runtime.init_settings import InitSettings, MaskSettings
from runtime.request import Request
from runtime.samplers.stochasticity import Stochasticity
from runtime.seeds import NoiseSettings
from runtime.server.given_pictures import read_mask, read_picture
from runtime.server.numbers import Whole


class Body(BaseModel):
    """Fields that nobody knows are refused; what is left out is the runtime's default."""

    model_config = ConfigDict(extra="forbid")


class NoiseBody(Body):
    """How the seed becomes noise."""

    source: str | None = Field(None, description="cpu or nv")
    subseed: Whole | None = None
    subseed_strength: float | None = None
    from_width: Whole | None = None
    from_height: Whole | None = None
    eta_seed_delta: Whole | None = None


class GuidanceBody(Body):
    """What there is to guidance beside its scale."""

    rescale: float | None = None
    start: float | None = None
    end: float | None = None


class StochasticityBody(Body):
    """How much noise the sampler brings in."""

    eta: float | None = None
    s_churn: float | None = None
    s_tmin: float | None = None
    s_tmax: float | None = None
    s_noise: float | None = None


class HiresBody(Body):
    """The second pass at another size."""

    scale: float | None = None
    width: Whole | None = None
    height: Whole | None = None
    upscaler: str | None = None
    steps: Whole | None = None
    strength: float | None = None


class MaskBody(Body):
    """Which part is painted anew."""

    picture: str = Field(description="opaque where it is painted, or light if all is opaque")
    blur: float | None = None
    invert: bool | None = None
    content: str | None = None
    only_masked: bool | None = None
    padding: Whole | None = None
    soft: bool | None = None


class InitBody(Body):
    """The picture to start from."""

    picture: str = Field(description="PNG, JPEG or WebP as base64 or a data URL")
    strength: float | None = None
    resize: str | None = None
    mask: MaskBody | None = None


class JobBody(Body):
    """What is asked for. What is left out is the bundle's default, or chance for the seed."""

    prompt: str = Field(description="text in the webui's grammar")
    negative: str | None = Field(None, description="what the picture should not show")
    preset: str | None = Field(None, description="one of the bundle's presets, or none")
    tags: str | None = Field(None, description="trained tags put in: all, none or a number")
    seed: Whole | None = Field(None, description="of the first picture; the next have the next")
    steps: Whole | None = None
    cfg: float | None = Field(None, description="the guidance scale")
    sampler: str | None = None
    schedule: str | None = None
    width: Whole | None = None
    height: Whole | None = None
    clip_skip: Whole | None = None
    count: Whole | None = Field(None, description="how many pictures")
    vae_tiling: str | None = None
    noise: NoiseBody | None = None
    guidance: GuidanceBody | None = None
    stochasticity: StochasticityBody | None = None
    hires: HiresBody | None = None
    init: InitBody | None = None
    priority: Literal["high", "normal", "low"] = "normal"
    deadline: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="seconds after which nobody needs it"
    )
    previews: bool = Field(False, description="whether the events show the pictures in progress")


_OF_THE_JOB = frozenset({"priority", "deadline", "previews"})


def read_job(body: JobBody, max_pixels: int) -> Request:
    """What a job asks for; decodes its pictures.

    Raises:
        InputError: a picture cannot be read or is too large.
    """
    given = _given(body)
    fields = {name: value for name, value in given.items() if name not in _OF_THE_JOB}
    kinds: dict[str, type[Any]] = {
        "noise": NoiseSettings,
        "guidance": GuidanceSettings,
        "stochasticity": Stochasticity,
        "hires": HiresSettings,
    }
    for name, kind in kinds.items():
        if name in fields:
            fields[name] = kind(**_given(fields[name]))
    if body.init is not None:
        fields["init"] = _read_init(body.init, max_pixels)
    return Request(**fields)


def _read_init(body: InitBody, max_pixels: int) -> InitSettings:
    fields = _given(body)
    fields["picture"] = read_picture(body.picture, "init.picture", max_pixels)
    if body.mask is not None:
        mask = read_mask(body.mask.picture, "init.mask.picture", max_pixels)
        fields["mask"] = MaskSettings(**(_given(body.mask) | {"picture": mask}))
    return InitSettings(**fields)


def _given(body: BaseModel) -> dict[str, Any]:
    """The fields that are not null: what is null is left out."""
    return {name: value for name, value in body if value is not None}
