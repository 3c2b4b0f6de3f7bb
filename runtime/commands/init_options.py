"""Options that name the picture to start from, and the part of it that is painted anew."""

import argparse
import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import SettingError
from runtime.commands.option_groups import read_group

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runtime.again import Recorded, UnnamedInit
    from runtime.init_settings import InitSettings, MaskSettings
    from runtime.request import Request
    from runtime.source_picture import SourcePicture

log = logging.getLogger(__name__)

_INIT = {"strength": "strength", "resize_mode": "resize"}
_MASK = {
    "mask_blur": "blur",
    "mask_invert": "invert",
    "mask_content": "content",
    "only_masked": "only_masked",
    "mask_padding": "padding",
    "soft_mask": "soft",
}
"""The options' names and those of the settings' fields."""


def add_init_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--init`, `--mask` and what belongs to them."""
    init = parser.add_argument_group("img2img and inpainting", "see docs/img2img.md")
    init.add_argument("--init", type=Path, metavar="FILE", help="the picture to start from")
    init.add_argument(
        "--strength", type=float, metavar="X", help="how much of it changes, 0 to 1 (default 0.75)"
    )
    init.add_argument(
        "--resize-mode",
        metavar="MODE",
        help="just-resize (default), crop-and-resize, resize-and-fill, or extend: to multiples of "
        "8 for the time of the work (default with a mask and without --size)",
    )
    init.add_argument(
        "--mask",
        type=Path,
        metavar="FILE",
        help="which part changes: what is light, or opaque in a mask with transparency",
    )
    init.add_argument(
        "--mask-blur",
        type=float,
        metavar="PIXELS",
        help="the standard deviation of its blurred edge (default 4)",
    )
    init.add_argument(
        "--mask-invert", action="store_true", default=None, help="change what is dark instead"
    )
    init.add_argument(
        "--mask-content",
        metavar="WHAT",
        help="what the part starts from: original (default), fill, latent-noise or latent-nothing",
    )
    init.add_argument(
        "--only-masked",
        action="store_true",
        default=None,
        help="work on the masked part alone, enlarged to --size",
    )
    init.add_argument(
        "--mask-padding",
        type=int,
        metavar="PIXELS",
        help="around the part then (default 32)",
    )
    init.add_argument(
        "--soft-mask",
        action="store_true",
        default=None,
        help="grey means in part; else the mask is all or nothing",
    )


def with_init(options: argparse.Namespace, recorded: "Recorded") -> "Request":
    """The recorded request with the picture and mask that the options of `add_init_arguments` name.

    Where they name another picture, its size counts and not the recorded one; with a recorded mask,
    neither does "extend", which follows from the size. A size at which the masked part alone is
    worked on is no picture's, and stays. So does that of the webui's text, which names no picture.

    Args:
        options: those of the command.
        recorded: counts where the options say nothing, but for the pixels.

    Raises:
        SettingError: an option stands without the one that it belongs to, or would be without
            effect.
        InputError: a picture cannot be read.
    """
    source, init = recorded.request, _read_init_settings(options, recorded)
    if init is None or not _brings_size(init, recorded) or options.size is not None:
        return dataclasses.replace(source, init=init)
    from runtime.resize import EXTEND, STRETCH

    if init.mask is not None and init.resize == EXTEND and options.resize_mode is None:
        init = dataclasses.replace(init, resize=STRETCH)
    return dataclasses.replace(source, width=None, height=None, init=init)


def _brings_size(init: "InitSettings", recorded: "Recorded") -> bool:
    before = recorded.request.init
    if recorded.init is not None or (before is not None and before.picture == init.picture):
        return False
    sized = [each for each in (before, init) if each is not None]
    return not all(each.mask is not None and each.mask.only_masked for each in sized)


def _read_init_settings(options: argparse.Namespace, recorded: "Recorded") -> "InitSettings | None":
    source, unnamed = recorded.request.init, recorded.init
    fields = read_group(options, "init", _INIT)
    mask_fields = {} if unnamed is None else unnamed.mask
    mask = _read_mask(options, source.mask if source else None, mask_fields)
    _check_effect(options, mask)
    if options.init is None and options.mask is not None:
        raise SettingError("--mask needs --init, the picture that it belongs to.")
    if unnamed is not None:
        _warn_of_missing(options, unnamed)
        fields = {"strength": unnamed.strength, **fields}
    if options.init is None:
        return source
    from runtime.init_settings import InitSettings
    from runtime.source_picture import SourcePicture

    picture = SourcePicture.open(options.init)
    if source is None:
        return InitSettings(picture, mask=mask, **fields)
    _warn_of_another("--init", picture, source.picture)
    return dataclasses.replace(source, picture=picture, mask=mask, **fields)


def _read_mask(
    options: argparse.Namespace, source: "MaskSettings | None", recorded: "Mapping[str, Any]"
) -> "MaskSettings | None":
    fields = {**recorded, **read_group(options, "mask", _MASK)}
    if options.mask is None:
        return source
    from runtime.init_settings import MaskSettings
    from runtime.source_picture import SourcePicture

    picture = SourcePicture.open_mask(options.mask)
    if source is None:
        return MaskSettings(picture, **fields)
    _warn_of_another("--mask", picture, source.picture)
    return dataclasses.replace(source, picture=picture, **fields)


def _check_effect(options: argparse.Namespace, mask: "MaskSettings | None") -> None:
    """Refuse options that change nothing; in settings, what is given looks like a default."""
    only_masked = mask is not None and mask.only_masked
    if options.mask_padding is not None and not only_masked:
        raise SettingError("--mask-padding needs --only-masked: it changes nothing else.")
    if options.resize_mode is not None and only_masked:
        raise SettingError(
            "--resize-mode changes nothing where the masked part alone is worked on "
            "(--only-masked): leave it out."
        )


def _warn_of_missing(options: argparse.Namespace, unnamed: "UnnamedInit") -> None:
    """Say what a picture was made from that its file does not name and the options do not give."""
    if options.init is None:
        log.warning(
            "%s was made from another picture, with strength %g, and does not name it: give it "
            "with --init, or the result starts from noise and will differ",
            options.source,
            unnamed.strength,
        )
    elif unnamed.mask and options.mask is None:
        log.warning(
            "%s was made with a mask and does not name it: give it with --mask, or all of the "
            "picture changes",
            options.source,
        )


def _warn_of_another(option: str, picture: "SourcePicture", recorded: "SourcePicture") -> None:
    if picture != recorded:
        log.warning("%s is another picture than that of --from: the result will differ", option)
