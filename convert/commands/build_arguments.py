"""The options that say what plans are built, which `convert build` and `convert all` share."""

import argparse
from collections.abc import Callable
from typing import Final, TypeVar

from convert.plans.options import HARDWARE_COMPATIBILITY, LEVELS, BuildOptions
from convert.plans.ranges import (
    DEFAULT_BATCH,
    DEFAULT_CHUNKS,
    Ranges,
    default_sizes,
    parse_size_range,
    parse_span,
)
from convert.plans.targets import RTX_TARGETS, parse_targets
from engines.errors import SettingError
from engines.manifest import Manifest
from engines.plans import PLAN_BACKENDS

Value = TypeVar("Value")

_MEGABYTE: Final = 1 << 20


def add_backend_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Declare which plans are built."""
    parser.add_argument(
        "--backend",
        choices=PLAN_BACKENDS,
        required=required,
        help="tensorrt-rtx builds for RTX cards on any machine, without a GPU; tensorrt for the "
        "data-centre GPU or Jetson that it runs on",
    )
    parser.add_argument(
        "--target",
        type=_checked(parse_targets),
        default=(),
        metavar="SM[,SM]",
        help="GPU architectures, as in sm86,sm89: one set of plans serves them all (default: "
        f"{','.join(RTX_TARGETS)} with tensorrt-rtx, the GPU here with tensorrt)",
    )


def add_build_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how plans are built."""
    ranges = parser.add_argument_group(
        "ranges", "A range is N, LEAST:MOST or LEAST:BEST:MOST; BEST is what is tuned for."
    )
    ranges.add_argument(
        "--size",
        type=_checked(str, lambda text: parse_size_range(text, 1, 1)),
        action="append",
        default=[],
        metavar="WxH[:WxH]",
        help="sizes of pictures, as in 512x512:768x768; given several times, a profile for each, "
        "of which the narrowest that fits is used (default: the bundle's own size, and from half "
        "of it to twice)",
    )
    ranges.add_argument(
        "--batch",
        type=_checked(str, lambda text: parse_span(text, 2)),
        default=DEFAULT_BATCH,
        metavar="N:N",
        help="entries of one UNet call, two for a picture with guidance (default: %(default)s)",
    )
    ranges.add_argument(
        "--chunks",
        type=_checked(str, lambda text: parse_span(text, 1)),
        default=DEFAULT_CHUNKS,
        metavar="N:N",
        help="length of prompts in chunks of 77 tokens (default: %(default)s)",
    )
    how = parser.add_argument_group("how they are built")
    how.add_argument(
        "--optimization-level",
        type=int,
        choices=LEVELS,
        metavar="0-5",
        help="how long TensorRT looks for fast kernels (default: TensorRT's own, 3)",
    )
    how.add_argument(
        "--workspace",
        type=_checked(_parse_megabytes),
        metavar="MIB",
        help="most GPU memory that one layer may take for scratch (default: all)",
    )
    how.add_argument(
        "--weight-streaming",
        action="store_true",
        help="let weights stay in the host's memory while plans run, for small cards",
    )
    how.add_argument(
        "--batch-invariant",
        action="store_true",
        help="keep a picture from depending, even within rounding, on its place in the batch "
        "(TensorRT's DISTRIBUTIVE_INDEPENDENCE); it allows one --size only",
    )
    how.add_argument(
        "--strip",
        action="store_true",
        help="leave the weights out; they are put in from the bundle's graphs when plans are "
        "loaded. tensorrt-rtx needs a GPU to build so",
    )
    how.add_argument(
        "--hardware-compatibility",
        choices=HARDWARE_COMPATIBILITY,
        default=BuildOptions().hardware_compatibility,
        help="which other GPUs plans run on, with tensorrt (default: %(default)s, the same model)",
    )
    how.add_argument(
        "--version-compatible",
        action="store_true",
        help="let plans run with later versions of TensorRT, with tensorrt",
    )


def build_options(options: argparse.Namespace) -> BuildOptions:
    """How plans are built."""
    return BuildOptions(
        optimization_level=options.optimization_level,
        hardware_compatibility=options.hardware_compatibility,
        version_compatible=options.version_compatible,
        batch_invariant=options.batch_invariant,
        workspace=options.workspace,
        weight_streaming=options.weight_streaming,
        strip=options.strip,
    )


def build_ranges(options: argparse.Namespace, manifest: Manifest) -> Ranges:
    """What plans are built for; what is left out follows the bundle."""
    width, height = manifest.defaults.width, manifest.defaults.height
    sizes = tuple(parse_size_range(text, width, height) for text in options.size)
    return Ranges(
        batch=parse_span(options.batch, 2),
        chunks=parse_span(options.chunks, 1),
        sizes=sizes or default_sizes(manifest, single=options.batch_invariant),
    )


def backend_arguments(options: argparse.Namespace) -> list[str]:
    """What was given of the options that say which plans are built."""
    target = ["--target", ",".join(options.target)] if options.target else []
    return ["--backend", options.backend, *target]


def command_arguments(options: argparse.Namespace) -> list[str]:
    """The arguments after the bundle with which `convert build` does the same again."""
    how = build_options(options)
    arguments = backend_arguments(options)
    for text in options.size:
        arguments += ["--size", text]
    if options.batch != DEFAULT_BATCH:
        arguments += ["--batch", options.batch]
    if options.chunks != DEFAULT_CHUNKS:
        arguments += ["--chunks", options.chunks]
    if how.optimization_level is not None:
        arguments += ["--optimization-level", str(how.optimization_level)]
    if how.workspace is not None:
        arguments += ["--workspace", str(how.workspace // _MEGABYTE)]
    if how.hardware_compatibility != BuildOptions().hardware_compatibility:
        arguments += ["--hardware-compatibility", how.hardware_compatibility]
    switches = {
        "--weight-streaming": how.weight_streaming,
        "--batch-invariant": how.batch_invariant,
        "--strip": how.strip,
        "--version-compatible": how.version_compatible,
    }
    return arguments + [name for name, on in switches.items() if on]


def _parse_megabytes(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text) < _MEGABYTE:
        raise SettingError(f"{text!r} is not a number of MiB from 1 to {_MEGABYTE - 1}.")
    return int(text) * _MEGABYTE


def _checked(
    convert: Callable[[str], Value], check: Callable[[str], object] = len
) -> Callable[[str], Value]:
    """What argparse takes for a type: a wrong value is bad usage."""

    def parse(text: str) -> Value:
        try:
            check(text)
            return convert(text)
        except SettingError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse
