"""Requests from pictures: what a file says about itself, asked for again."""

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.errors import InputError
from runtime.guidance import GuidanceSettings
from runtime.hires import WEBUI_UPSCALERS, HiresSettings
from runtime.metadata import Origin, Parameters, parse_parameters, parse_record
from runtime.picture_file import read_texts
from runtime.request import NO_PRESET, Request, Settings
from runtime.samplers.stochasticity import Stochasticity
from runtime.seeds import NoiseSettings

log = logging.getLogger(__name__)

_SILENT = ("Version", "Model", "Model hash", "VAE", "VAE hash", "Lora hashes", "TI hashes")
"""What the webui says of a model; none of it could be asked for here."""


@dataclass(frozen=True)
class UnnamedInit:
    """What the webui's text says of img2img; which picture and mask there were, it does not say.

    Attributes:
        strength: how much of the picture changed.
        mask: fields of `MaskSettings`; empty where there is no sign of a mask.
    """

    strength: float
    mask: Mapping[str, Any]


@dataclass(frozen=True)
class Recorded:
    """What a file says of how its picture was made.

    Attributes:
        request: makes it again.
        origin: where it came from; None where no record says so.
        init: what else the request needs, once the picture to start from is given; None where
            there was no such picture or the request names it.
    """

    request: Request
    origin: Origin | None = None
    init: UnnamedInit | None = None


def recorded_in(path: Path) -> Recorded:
    """What a file says of how its picture was made.

    Our record says everything. A text of the webui's says as much as it knows of; what it asks
    for that is not here is named in a warning.

    Raises:
        InputError: the file is no picture, or says nothing, or what it says is damaged.
    """
    texts = read_texts(path)
    if texts.record is not None:
        settings, origin = parse_record(texts.record)
        return Recorded(request_of(settings), origin)
    if texts.parameters is None:
        raise InputError(f"{path} does not say how it was made.")
    parameters = parse_parameters(texts.parameters)
    if "Steps" not in parameters.fields:
        raise InputError(f"{path} does not say how it was made: its text names no steps.")
    return recorded_in_parameters(parameters, str(path))


def request_of(settings: Settings) -> Request:
    """The request that these settings follow from, whatever the bundle's defaults."""
    names = {field.name for field in dataclasses.fields(Request)}
    values = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(Settings)
        if field.name in names
    }
    hires = settings.hires
    if hires is not None and hires.scale:
        values["hires"] = dataclasses.replace(hires, width=0, height=0)
    return Request(**values, preset=NO_PRESET)


def warn_of_differences(path: Path, made: Origin, here: Origin) -> None:
    """Say by name what would make a picture differ from the one in the file."""
    if made.identity != here.identity:
        log.warning(
            "%s was made with the bundle %s (%.10s), this is %s (%.10s): the picture will differ",
            path,
            made.bundle,
            made.identity,
            here.bundle,
            here.identity,
        )
    elif made.backend != here.backend:
        log.warning(
            "%s was made on the backend %s, this is %s: the picture will differ by rounding",
            path,
            made.backend,
            here.backend,
        )


def recorded_in_parameters(parameters: Parameters, name: str) -> Recorded:
    """What the webui's text says; its own defaults where it says nothing.

    It names limits of churn where there is none, too; they have no effect there or here.

    Args:
        parameters: the text, taken apart.
        name: what the text is called in messages.

    Raises:
        InputError: a value cannot be read.
    """
    fields = _Fields(parameters.fields, name)
    subseed = fields.take("Variation seed", int, None)
    width, height = fields.take("Size", _size, (None, None))
    from_width, from_height = fields.take("Seed resize from", _size, (0, 0))
    eta = fields.take("Eta", float, None)
    eta_ddim = fields.take("Eta DDIM", float, None)
    churn = fields.take("Sigma churn", float, 0.0)
    tmin, tmax = fields.take("Sigma tmin", float, 0.0), fields.take("Sigma tmax", float, None)
    request = Request(
        prompt=parameters.prompt,
        negative=parameters.negative,
        preset=NO_PRESET,
        seed=fields.take("Seed", int, None),
        steps=fields.take("Steps", int, None),
        cfg=fields.take("CFG scale", float, None),
        sampler=fields.take("Sampler", str, None),
        schedule=fields.take("Schedule type", str, None),
        width=width,
        height=height,
        clip_skip=fields.take("Clip skip", int, 1),
        noise=NoiseSettings(
            source={"CPU": "cpu"}.get(fields.take("RNG", str, "NV").upper(), "nv"),
            subseed=subseed,
            subseed_strength=fields.take("Variation seed strength", float, 0.0),
            from_width=from_width,
            from_height=from_height,
            eta_seed_delta=fields.take("ENSD", int, 0),
        ),
        guidance=GuidanceSettings(
            fields.take("CFG Rescale", float, 0.0),
            fields.take("Skip Early CFG", float, 0.0),
            fields.take("CFG end", float, 1.0),
        ),
        stochasticity=Stochasticity(
            eta_ddim if eta is None else eta,
            churn,
            tmin if churn else 0.0,
            tmax if churn else None,
            fields.take("Sigma noise", float, 1.0),
        ),
    )
    request = dataclasses.replace(request, hires=_hires(fields))
    init = _init(fields) if request.hires is None else None
    fields.warn_of_rest()
    return Recorded(request, init=init)


def _hires(fields: "_Fields") -> HiresSettings | None:
    """The second pass, where there was one; its strength is that of img2img elsewhere."""
    upscaler = fields.take("Hires upscaler", str, None)
    if upscaler is None:
        return None
    defaults = HiresSettings()
    width, height = fields.take("Hires resize", _size, (0, 0))
    return HiresSettings(
        scale=fields.take("Hires upscale", float, defaults.scale),
        width=width,
        height=height,
        upscaler=WEBUI_UPSCALERS.get(upscaler, upscaler),
        steps=fields.take("Hires steps", int, 0),
        strength=fields.take("Denoising strength", float, defaults.strength),
    )


def _init(fields: "_Fields") -> UnnamedInit | None:
    """What there was of img2img; a mask's blur is named unless it is 0."""
    strength = fields.take("Denoising strength", float, None)
    if strength is None:
        return None
    taken = {
        "blur": fields.take("Mask blur", float, None),
        "invert": fields.take("Mask mode", lambda mode: mode == "Inpaint not masked", None),
        "content": fields.take("Masked content", str, None),
        "only_masked": fields.take("Inpaint area", lambda area: area == "Only masked", None),
        "padding": fields.take("Masked area padding", int, None),
    }
    mask = {name: value for name, value in taken.items() if value is not None}
    return UnnamedInit(strength, {"blur": 0.0, **mask} if mask else {})


class _Fields:
    """The webui's fields, taken one by one."""

    def __init__(self, fields: dict[str, str], name: str) -> None:
        self._fields = {key: value for key, value in fields.items() if key not in _SILENT}
        self._name = name

    def take(self, key: str, read: Any, default: Any) -> Any:
        """The value of a field, or `default` where it is not there."""
        text = self._fields.pop(key, None)
        if text is None:
            return default
        try:
            return read(text)
        except ValueError as error:
            raise InputError(f"{self._name}: its {key} {text!r} cannot be read.") from error

    def warn_of_rest(self) -> None:
        """Name the fields that nothing here stands for."""
        if self._fields:
            log.warning(
                "%s: ignored, for there is nothing like it here: %s",
                self._name,
                ", ".join(f"{key}: {value}" for key, value in self._fields.items()),
            )


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)
