"""Whether a bundle's graphs take what a picture asks for, told before any work is done for it."""

import itertools
from collections.abc import Iterable

from engines import layout
from engines.axes import Limits, Ranges
from engines.errors import SettingError
from runtime.hires import LATENT_UPSCALERS, enlarged_size
from runtime.request import Settings
from runtime.tiles import size_of_call


def check_size(settings: Settings, limits: Limits, downscale: int) -> None:
    """Make sure that a picture's size can be computed.

    Args:
        settings: the picture's.
        limits: what the graphs take on the backend.
        downscale: pixels per latent.

    Raises:
        SettingError: it cannot; the message has the sizes that can.
    """
    components = [layout.UNET, layout.VAE_DECODER]
    if settings.init is not None or settings.hires is not None:
        components.append(layout.VAE_ENCODER)
    calls = [*itertools.product(_sizes(settings), components)]
    calls += [(size, layout.VAE_ENCODER) for size in _enlarged(settings, downscale)]
    for (width, height), component in calls:
        called = width, height
        if component != layout.UNET:
            called = size_of_call(settings.vae_tiling, width, height, downscale)
        if not limits.take(component, _axes(*called, downscale)):
            allowed = _unique(
                _size_range(ranges, downscale) for ranges in limits.components[component]
            )
            tiles = "" if called == (width, height) else f" in tiles of {called[0]}x{called[1]}"
            if (width, height) not in _sizes(settings):
                tiles += ", to which hires fix enlarges before it crops,"
            raise SettingError(
                f"The size {width}x{height}{tiles} is not possible on this backend: the bundle's "
                f"{component} takes {allowed}. Choose such a size, another --backend, or another "
                "bundle."
            )


def check_tokens(tokens: int, settings: Settings, limits: Limits, downscale: int) -> None:
    """Make sure that a picture's prompts are not too long for the UNet, at its size.

    Args:
        tokens: of the longer one of its prompts, in whole chunks.
        settings: the picture's.
        limits: what the graphs take on the backend.
        downscale: pixels per latent.

    Raises:
        SettingError: they are; the message has the lengths that can be computed.
    """
    for width, height in _sizes(settings):
        size = _axes(width, height, downscale)
        if limits.take(layout.UNET, {"tokens": tokens, **size}):
            continue
        allowed = _unique(
            _range(ranges["tokens"])
            for ranges in limits.components[layout.UNET]
            if "tokens" in ranges and Limits({layout.UNET: (ranges,)}).take(layout.UNET, size)
        )
        raise SettingError(
            f"The prompts take {tokens} tokens in chunks of {layout.CHUNK_TOKENS}, and the UNet "
            f"takes {allowed} at this size. Shorten them, or choose another --backend or bundle."
        )


def least_tokens(limits: Limits) -> int:
    """The shortest text that the UNet takes, in tokens of whole chunks."""
    ranges = [each["tokens"] for each in limits.components.get(layout.UNET, ()) if "tokens" in each]
    return min((least for least, _ in ranges), default=layout.CHUNK_TOKENS)


def _sizes(settings: Settings) -> list[tuple[int, int]]:
    """Width and height of a picture in each of its passes, in pixels."""
    sizes = [(settings.width, settings.height)]
    if settings.hires is not None:
        sizes.append((settings.hires.width, settings.hires.height))
    return sizes


def _enlarged(settings: Settings, downscale: int) -> list[tuple[int, int]]:
    """Width and height in pixels of what hires fix encodes, where it enlarges pictures."""
    hires = settings.hires
    if hires is None or hires.upscaler in LATENT_UPSCALERS:
        return []
    size = enlarged_size(hires, settings.width, settings.height, downscale)
    width, height = (side // downscale * downscale for side in size)
    return [(width, height)]


def _axes(width: int, height: int, downscale: int) -> dict[str, int]:
    """A picture's sides as the graphs have them: of latents, and of pixels."""
    return {
        "height": height // downscale,
        "width": width // downscale,
        "picture_height": height,
        "picture_width": width,
    }


def _size_range(ranges: Ranges, downscale: int) -> str:
    """Widths and heights in pixels, as in 512x512 or 256x256 to 1024x1024."""
    ends = [
        tuple(_side(ranges, axis, end, downscale) for axis in ("width", "height")) for end in (0, 1)
    ]
    least, most = (f"{width}x{height}" for width, height in ends)
    return least if least == most else f"{least} to {most}"


def _side(ranges: Ranges, axis: str, end: int, downscale: int) -> str:
    """One end of the range of a picture's side, in pixels."""
    if axis in ranges:
        return str(ranges[axis][end] * downscale)
    pixels = ranges.get(f"picture_{axis}")
    return "any" if pixels is None else str(pixels[end])


def _range(ends: tuple[int, int]) -> str:
    return str(ends[0]) if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def _unique(texts: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(texts))
