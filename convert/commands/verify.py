"""`convert verify`: compare a bundle's graphs with torch."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Final

from convert.fuse_record import fused_sibling
from convert.measure import measured
from convert.picture_cases import MOST_PICTURES, PICTURES, STEPS
from engines.bundle import open_bundle
from engines.console import Result, add_common_arguments
from engines.errors import InputError, MissingExtraError
from engines.manifest import Manifest, Parity, PictureParity

_DESCRIPTION: Final = (
    "Run every graph of a bundle and the model that it was exported from on the same inputs, in "
    "ONNX Runtime and in torch (float32); then make whole pictures with diffusers' pipeline, once "
    "on its own networks and once on the graphs. The differences are written into bundle.json. "
    "Exit status 1 when one is out of tolerance."
)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = commands.add_parser(
        "verify", help="compare a bundle with torch", description=_DESCRIPTION
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="FUSED",
        help="the model that was exported (default: BUNDLE.fused, which `convert all` leaves)",
    )
    add_pictures_argument(parser)
    add_common_arguments(parser)
    parser.set_defaults(command=run)


def add_pictures_argument(parser: argparse.ArgumentParser) -> None:
    """Declare how many pictures are compared, which `convert all` has too."""
    parser.add_argument(
        "--pictures",
        type=_parse_count,
        default=PICTURES,
        metavar="N",
        help=f"how many whole pictures to compare, {STEPS} steps each; 0 for none (default: "
        "%(default)s)",
    )


def _parse_count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > MOST_PICTURES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {MOST_PICTURES}")
    return int(text)


def run(options: argparse.Namespace) -> Result:
    """Verify a bundle."""
    bundle = open_bundle(options.bundle)
    model = options.against or fused_sibling(options.bundle)
    if not model.exists():
        raise InputError(
            f"There is no {model}. Say with --against which model {bundle.path} was exported from."
        )
    try:
        from convert.parity import has_passed
        from convert.verify import run_verify
    except ImportError as error:
        raise MissingExtraError(str(error.name), "convert", "convert verify") from error
    with measured() as total:
        manifest, costs = run_verify(bundle, model, options.pictures, progress=not options.quiet)
    return Result(
        text="\n".join([*describe_parity(manifest), f"{bundle.path}: {total}"]),
        value={
            "bundle": str(bundle.path),
            "against": str(model),
            "passed": has_passed(manifest),
            **asdict(total),
            "parity": {
                name: [asdict(figures) for figures in outputs]
                for name, outputs in manifest.parity.items()
            },
            "pictures": [asdict(picture) for picture in manifest.pictures],
            "components": {name: asdict(cost) for name, cost in costs.items()},
        },
        passed=has_passed(manifest),
    )


def describe_parity(manifest: Manifest) -> list[str]:
    """The parity figures for people, a line for each output and for each picture."""
    lines = [
        _describe_figures(name, figures)
        for name, outputs in manifest.parity.items()
        for figures in outputs
    ]
    return lines + [_describe_picture(picture) for picture in manifest.pictures]


def _describe_figures(component: str, figures: Parity) -> str:
    verdict = "ok" if figures.passed else "FAILED"
    return (
        f"  {component}.{figures.output}: {verdict}, largest error {figures.max_error:.1e} of "
        f"{figures.tolerance:.1e} allowed, mean {figures.mean_error:.1e}, "
        f"cosine {figures.cosine:.7f}"
    )


def _describe_picture(picture: PictureParity) -> str:
    verdict = "ok" if picture.passed else "FAILED"
    return (
        f"  picture of seed {picture.seed}, {picture.width}x{picture.height}, {picture.steps} "
        f"steps: {verdict}, PSNR {picture.psnr:.1f} dB of {picture.least_psnr:.0f} needed, "
        f"SSIM {picture.ssim:.5f} of {picture.least_ssim:g}"
    )
