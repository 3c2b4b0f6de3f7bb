"""Options of guidance and of samplers beside their names."""

import argparse
import dataclasses
import logging
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.guidance import GuidanceSettings
    from runtime.request import Request
    from runtime.samplers.stochasticity import Stochasticity
    from runtime.sheet_axes import Sheet

log = logging.getLogger(__name__)

_Settings = TypeVar("_Settings", "GuidanceSettings", "Stochasticity")

_NOISE = ("eta", "s_churn", "s_tmin", "s_tmax", "s_noise")
"""The options of sampler noise, and the fields of its settings."""


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of guidance and of the noise that samplers bring in."""
    guidance = parser.add_argument_group("guidance")
    guidance.add_argument(
        "--cfg-rescale",
        type=float,
        metavar="X",
        help="bring the contrast of guided predictions back, 0 (default) to 1",
    )
    guidance.add_argument(
        "--cfg-start",
        type=float,
        metavar="X",
        help="no guidance in this share of the first steps, which halves their time "
        "(the webui's Skip Early CFG; default 0)",
    )
    guidance.add_argument(
        "--cfg-end",
        type=float,
        metavar="X",
        help="no guidance any more from this share of the steps on (default 1)",
    )
    noise = parser.add_argument_group("sampler noise", "see docs/samplers.md")
    noise.add_argument(
        "--eta", type=float, metavar="X", help="its share, 0 to 1 (default: the sampler's own)"
    )
    noise.add_argument("--s-churn", type=float, metavar="X", help="churn of a run (default 0)")
    noise.add_argument("--s-tmin", type=float, metavar="X", help="its least sigma (default 0)")
    noise.add_argument(
        "--s-tmax", type=float, metavar="X", help="its highest sigma (default: none)"
    )
    noise.add_argument("--s-noise", type=float, metavar="X", help="what multiplies it (default 1)")


def read_guidance_settings(
    options: argparse.Namespace, source: "GuidanceSettings"
) -> "GuidanceSettings":
    """What the options of guidance make of `source`; nothing is checked yet."""
    given = {"rescale": options.cfg_rescale, "start": options.cfg_start, "end": options.cfg_end}
    return _with_given(source, given)


def read_stochasticity(options: argparse.Namespace, source: "Stochasticity") -> "Stochasticity":
    """What the options of sampler noise make of `source`; nothing else is checked yet.

    What another sampler than that of `source` does not take is left out, with a warning.

    Raises:
        SettingError: there is no such sampler.
    """
    if options.sampler is not None:
        source, lost = _taken(options.sampler, source, _NOISE)
        _warn_of_lost(options.sampler, lost)
    return _with_given(source, {name: getattr(options, name) for name in _NOISE})


def leave_out_untaken(
    options: argparse.Namespace, requests: "Sequence[Request]", sheet: "Sheet"
) -> "list[Request]":
    """The places of a sheet; where it has samplers, without recorded noise that theirs do not take.

    What the options or another axis say stays, to be refused. What is left out is warned of.

    Raises:
        SettingError: there is no such sampler.
    """
    if not sheet.varies("sampler"):
        return list(requests)
    recorded = [
        name
        for name in _NOISE
        if getattr(options, name) is None and not sheet.varies(name.replace("_", "-"))
    ]
    lost: dict[str, list[str]] = {}
    places = []
    for request in requests:
        sampler = str(request.sampler)
        kept, lost[sampler] = _taken(sampler, request.stochasticity, recorded)
        places.append(dataclasses.replace(request, stochasticity=kept))
    for sampler, names in lost.items():
        _warn_of_lost(sampler, names)
    return places


def _taken(
    sampler: str, source: "Stochasticity", names: "Sequence[str]"
) -> "tuple[Stochasticity, list[str]]":
    """Without those of the named fields that a sampler does not take, and which these are."""
    from runtime.samplers.lookup import taken_by

    kept = taken_by(sampler, source)
    lost = [name for name in names if getattr(kept, name) != getattr(source, name)]
    return dataclasses.replace(source, **{name: getattr(kept, name) for name in lost}), lost


def _warn_of_lost(sampler: str, lost: "Sequence[str]") -> None:
    if lost:
        log.warning("%s takes no %s: left out", sampler, ", ".join(lost))


def _with_given(source: _Settings, given: dict[str, Any]) -> _Settings:
    """A dataclass with those values that are not None."""
    values = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(source, **values)
