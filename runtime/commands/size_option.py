"""Sizes on the command line."""

import argparse
import re

_SIZE = re.compile(r"(\d{1,5})[xX](\d{1,5})")


def size(text: str) -> tuple[int, int]:
    """Width and height from text such as 512x768, for argparse."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 512x768")
    return int(match[1]), int(match[2])
