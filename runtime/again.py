"""Requests from pictures: what a file says about itself, asked for again."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

from engines.errors import InputError
from runtime.guidance import GuidanceSettings
from runtime.hires import HiresSettings
from runtime.metadata import Origin, Parameters, parse_parameters, parse_record
from runtime.picture_file import read_texts
from runtime.request import NO_PRESET, Request, Settings
from runtime.samplers.stochasticity import Stochasticity
from runtime.seeds import NoiseSettings

log = logging.getLogger(__name__)

_SILENT = ("Version", "Model", "Model hash", "VAE", "VAE hash", "Lora hashes", "TI hashes")
"""What the webui says of a model; none of it could be asked for here."""


def request_from(path: Path) -> tuple[Request, Origin | None]:
    """The request that makes the picture in a file again.

    Our record says everything. A text of the webui's says as much as it knows of; what it asks
    for that is not here is named in a warning.

    Returns:
        The request, and where the picture came from; None where no record says so.

    Raises:
        InputError: the file is no picture, or says nothing, or what it says is damaged.
    """
    texts = read_texts(path)
    if texts.record is not None:
        settings, origin = parse_record(texts.record)
        return request_of(settings), origin
    if texts.parameters is None:
        raise InputError(f"{path} does not say how it was made.")
    parameters = parse_parameters(texts.parameters)
    if "Steps" not in parameters.fields:
        raise InputError(f"{path} does not say how it was made: its text names no steps.")
    return request_from_parameters(parameters, str(path)), None


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


def request_from_parameters(parameters: Parameters, name: str) -> Request:
    """What the webui's text asks for; its own defaults where it says nothing.

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
            fields.take("Sigma churn", float, 0.0),
            fields.take("Sigma tmin", float, 0.0),
            fields.take("Sigma tmax", float, None),
            fields.take("Sigma noise", float, 1.0),
        ),
    )
    request = dataclasses.replace(request, hires=_hires(fields))
    fields.warn_of_rest()
    return request


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
        upscaler=upscaler,
        steps=fields.take("Hires steps", int, 0),
        strength=fields.take("Denoising strength", float, defaults.strength),
    )


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
