"""The options that say how graphs are written, which `convert export` and `convert all` share."""

import argparse
from collections.abc import Callable
from typing import TypeVar

from convert.embeddings import parse_embedding
from convert.export_options import (
    OPSETS,
    ExportOptions,
    check_opset,
    parse_dtypes,
    parse_static,
)
from engines.errors import SettingError

Value = TypeVar("Value")


def add_export_arguments(parser: argparse.ArgumentParser, *, otherwise: str) -> None:
    """Declare them; `otherwise` says where the defaults come from."""
    parser.add_argument(
        "--dtype",
        type=_checked(str, parse_dtypes),
        metavar="DTYPE[,COMPONENT=DTYPE]",
        help="fp16 or fp32, of weights and activations; for one component another, as in "
        f"fp16,vae_decoder=fp32 (default: {otherwise})",
    )
    parser.add_argument(
        "--opset",
        type=_checked(int, check_opset),
        metavar="N",
        help=f"ONNX opset, {OPSETS[0]} to {OPSETS[-1]} (default: {otherwise})",
    )
    parser.add_argument(
        "--static",
        type=_checked(str, parse_static),
        metavar="WIDTHxHEIGHT[xBATCH]",
        help="fix the graphs to one size of picture and, where it is given, to one batch and 77 "
        "tokens of text; with guidance a picture takes two of the UNet's batch (default: "
        f"{otherwise})",
    )


def add_embedding_argument(parser: argparse.ArgumentParser, *, otherwise: str) -> None:
    """Declare `--embedding`; `otherwise` says what is taken without it."""
    parser.add_argument(
        "--embedding",
        action="append",
        type=parse_embedding,
        metavar="[NAME=]FILE|URL",
        help="a textual-inversion embedding (.pt, .bin, .safetensors) that NAME in a prompt stands "
        f"for; may be given several times (default: {otherwise})",
    )


def merge_export_arguments(options: argparse.Namespace, default: ExportOptions) -> ExportOptions:
    """The export options that were given, and for the others those of `default`."""
    return ExportOptions(
        dtype=default.dtype if options.dtype is None else options.dtype,
        opset=default.opset if options.opset is None else options.opset,
        static=default.static if options.static is None else options.static,
    )


def _checked(
    convert: Callable[[str], Value], check: Callable[[Value], object]
) -> Callable[[str], Value]:
    """What argparse takes for a type: a wrong value is bad usage."""

    def parse(text: str) -> Value:
        try:
            value = convert(text)
            check(value)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
        except SettingError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return value

    return parse
