"""What a picture says about itself: text for AUTOMATIC1111's webui, and a record for us.

The text is what the webui writes under the PNG key `parameters`, and what its "PNG Info" page and
many other programs read. The record is JSON under a key of our own and holds what the text cannot
say exactly: the bundle's identity and the settings, number for number.
"""

import dataclasses
import json
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engines import __version__
from engines.errors import InputError
from engines.fields import FieldError, parse_fields, parse_json
from runtime.hires import HiresSettings
from runtime.init_settings import CONTENT_ORIGINAL, InitSettings
from runtime.request import Settings
from runtime.samplers.catalogue import AUTOMATIC
from runtime.samplers.lookup import resolve
from runtime.seeds import NoiseSettings
from runtime.source_picture import NOT_RECORDED

PARAMETERS_KEY = "parameters"
RECORD_KEY = "fracture-sd"
RECORD_REVISION = 1

_WEBUI_SCHEDULES = {
    "normal": "Normal",
    "karras": "Karras",
    "exponential": "Exponential",
    "beta": "Beta",
    "sgm uniform": "SGM Uniform",
    "simple": "Simple",
    "align your steps": "Align Your Steps",
}
"""What the webui calls a schedule; timestep spacings, for which it has no names, keep their own."""

_NEGATIVE = "Negative prompt: "
_HASH_DIGITS = 10
_FIELD = re.compile(
    r"""
    \s*+
    (?: (?P<name>\w[^:,"]*+) : \s*+ (?P<value> "(?:\\.|[^\\"])*+" (?=,|$) | [^,]*+ ) | [^,]*+ )
    (?:,|$)
    """,
    re.VERBOSE | re.DOTALL,
)
"""One field, or text that is none: every character is read once, whatever the text."""


@dataclass(frozen=True)
class Origin:
    """What a picture was made with: the bundle's name and identity, the backend, our version."""

    bundle: str
    identity: str
    backend: str
    version: str = __version__


@dataclass(frozen=True)
class _Record:
    settings: Settings
    origin: Origin
    revision: int


@dataclass(frozen=True)
class Parameters:
    """The webui's text, taken apart: the prompts, and every other field by its name."""

    prompt: str
    negative: str
    fields: dict[str, str]


def format_parameters(
    settings: Settings, origin: Origin, more: Mapping[str, str] | None = None
) -> str:
    """The webui's text for a picture. `RNG` tells the webui where the noise came from.

    Args:
        settings: the picture's.
        origin: likewise.
        more: fields of another kind.
    """
    fields = {
        "Steps": str(settings.steps),
        "Sampler": settings.sampler,
        "Schedule type": _schedule_type(settings),
        "CFG scale": f"{settings.cfg:.6g}",
        "Seed": str(settings.seed),
        "Size": f"{settings.width}x{settings.height}",
        "Model hash": origin.identity[:_HASH_DIGITS],
        "Model": origin.bundle,
    }
    fields |= _init_fields(settings.init)
    fields |= _hires_fields(settings.hires)
    if settings.clip_skip > 1:
        fields["Clip skip"] = str(settings.clip_skip)
    fields |= _sampling_fields(settings)
    fields |= _noise_fields(settings.noise)
    fields |= more or {}
    fields["Version"] = f"{RECORD_KEY} {origin.version}"
    lines = [settings.prompt]
    if settings.negative:
        lines.append(_NEGATIVE + settings.negative)
    lines.append(", ".join(f"{name}: {_quote(value)}" for name, value in fields.items()))
    return "\n".join(lines).strip()


def parse_parameters(text: str) -> Parameters:
    """Take the webui's text apart.

    A prompt with a line that begins with `Negative prompt:` cannot be told from a negative
    prompt; the record is exact there too.
    """
    *lines, last = text.strip().split("\n")
    fields = {
        match["name"].strip(): _unquote(match["value"])
        for match in _FIELD.finditer(last)
        if match["name"]
    }
    for i, line in enumerate(lines):
        if line.startswith(_NEGATIVE):
            negative = [line.removeprefix(_NEGATIVE), *lines[i + 1 :]]
            return Parameters("\n".join(lines[:i]), "\n".join(negative), fields)
    return Parameters("\n".join(lines), "", fields)


def format_record(settings: Settings, origin: Origin) -> str:
    """Our record as JSON: everything that makes the picture again."""
    record = _Record(settings, origin, RECORD_REVISION)
    return json.dumps(_plain(record), ensure_ascii=False)


def parse_record(text: str) -> tuple[Settings, Origin]:
    """Read our record.

    Raises:
        InputError: it is damaged, or of a revision that this version does not know.
    """
    try:
        content = parse_json(text)
        revision = content.get("revision") if isinstance(content, dict) else None
        if revision != RECORD_REVISION:
            raise InputError(
                f"The picture's record is of revision {reprlib.repr(revision)}; this version "
                f"reads revision {RECORD_REVISION} only."
            )
        record = parse_fields(_Record, content, defaults=True)
    except (ValueError, FieldError) as error:
        raise InputError(f"The picture's record is damaged: {error}.") from error
    return record.settings, record.origin


def _schedule_type(settings: Settings) -> str:
    _, automatic = resolve(settings.sampler, AUTOMATIC)
    own = "Automatic" if settings.schedule == automatic else settings.schedule
    return _WEBUI_SCHEDULES.get(settings.schedule, own)


def _sampling_fields(settings: Settings) -> dict[str, str]:
    """Guidance and stochasticity, where they are not the samplers' own."""
    guidance, chosen = settings.guidance, settings.stochasticity
    eta = "Eta DDIM" if settings.sampler == "DDIM" else "Eta"
    return {
        name: f"{value:.6g}"
        for name, value, default in (
            ("CFG Rescale", guidance.rescale, 0),
            ("Skip Early CFG", guidance.start, 0),
            ("CFG end", guidance.end, 1),
            (eta, chosen.eta, None),
            ("Sigma churn", chosen.s_churn, 0),
            ("Sigma tmin", chosen.s_tmin, 0),
            ("Sigma tmax", chosen.s_tmax, None),
            ("Sigma noise", chosen.s_noise, 1),
        )
        if value is not None and value != default
    }


def _init_fields(init: InitSettings | None) -> dict[str, str]:
    """What the webui says of img2img; what is its default there, it leaves out."""
    if init is None:
        return {}
    fields = {"Denoising strength": f"{init.strength:.6g}"}
    mask = init.mask
    if mask is None:
        return fields
    if mask.blur:
        fields["Mask blur"] = f"{mask.blur:.6g}"
    if mask.invert:
        fields["Mask mode"] = "Inpaint not masked"
    if mask.content != CONTENT_ORIGINAL:
        fields["Masked content"] = mask.content
    if mask.only_masked:
        fields["Inpaint area"] = "Only masked"
        fields["Masked area padding"] = str(mask.padding)
    return fields


def _hires_fields(hires: HiresSettings | None) -> dict[str, str]:
    if hires is None:
        return {}
    return {
        "Denoising strength": f"{hires.strength:.6g}",
        **(
            {"Hires upscale": f"{hires.scale:.6g}"}
            if hires.scale
            else {"Hires resize": f"{hires.width}x{hires.height}"}
        ),
        "Hires steps": str(hires.steps),
        "Hires upscaler": hires.upscaler.capitalize(),
    }


def _noise_fields(noise: NoiseSettings) -> dict[str, str]:
    fields = {}
    if noise.subseed is not None:
        fields["Variation seed"] = str(noise.subseed)
        fields["Variation seed strength"] = f"{noise.subseed_strength:.6g}"
    if noise.from_width:
        fields["Seed resize from"] = f"{noise.from_width}x{noise.from_height}"
    if noise.eta_seed_delta:
        fields["ENSD"] = str(noise.eta_seed_delta)
    return fields | {"RNG": noise.source.upper()}


def _plain(value: Any) -> Any:
    """A dataclass as a dict, without what is not recorded."""
    if not dataclasses.is_dataclass(value):
        return value
    return {
        field.name: _plain(getattr(value, field.name))
        for field in dataclasses.fields(value)
        if NOT_RECORDED not in field.metadata
    }


def _quote(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r"[,\n:]", value) else value


def _unquote(value: str) -> str:
    if not value.startswith('"'):
        return value.strip()
    try:
        return str(json.loads(value))
    except ValueError:
        return value
