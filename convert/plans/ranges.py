"""The ranges of batch, size and text length that plans are built for, as optimisation profiles."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from engines import layout
from engines.axes import fixed_axes
from engines.errors import SettingError
from engines.manifest import Manifest, TensorSpec
from engines.plans import Profile, ShapeRange

_SPAN: Final = re.compile(r"([1-9]\d{0,4})(?::([1-9]\d{0,4}))?(?::([1-9]\d{0,4}))?")
_SIZE: Final = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
_MOST_SIZES: Final = 3


@dataclass(frozen=True)
class Span:
    """The least, best and most of a number."""

    least: int
    best: int
    most: int

    def __str__(self) -> str:
        """As `--batch` takes it."""
        return f"{self.least}:{self.best}:{self.most}"

    def times(self, factor: int) -> "Span":
        """The same of a number that is so many times as large."""
        return Span(self.least * factor, self.best * factor, self.most * factor)


@dataclass(frozen=True)
class SizeRange:
    """Sizes of pictures, in pixels."""

    width: Span
    height: Span

    def __str__(self) -> str:
        """As `--size` takes it."""
        width, height = self.width, self.height
        return f"{width.least}x{height.least}:{width.best}x{height.best}:{width.most}x{height.most}"


@dataclass(frozen=True)
class Ranges:
    """Everything that plans are built for; each of `sizes` gives a profile of its own.

    `batch` counts entries of one UNet call, of which a picture with guidance takes two; `chunks`
    counts pieces of 77 tokens in a prompt.
    """

    batch: Span
    chunks: Span
    sizes: tuple[SizeRange, ...]


DEFAULT_BATCH: Final = "1:2:16"
DEFAULT_CHUNKS: Final = "1:4"


def parse_span(text: str, best: int) -> Span:
    """A range of numbers.

    Args:
        text: `N`, `LEAST:MOST` or `LEAST:BEST:MOST`.
        best: what is tuned for where the text does not say, or the end that is next to it.

    Raises:
        SettingError: it has another form, or its numbers are not in ascending order.
    """
    match = _SPAN.fullmatch(text)
    if match is None:
        raise SettingError(f"The range {text!r} is neither N, LEAST:MOST nor LEAST:BEST:MOST.")
    numbers = [int(number) for number in match.groups() if number]
    return _span(numbers, best, text)


def parse_size_range(text: str, width: int, height: int) -> SizeRange:
    """A range of sizes.

    Args:
        text: `WIDTHxHEIGHT`, or two or three of them with `:` between, as `parse_span` has it.
        width: in pixels, what is tuned for where the text does not say.
        height: likewise.

    Raises:
        SettingError: it has another form, or its sides are not in ascending order.
    """
    parts = [_SIZE.fullmatch(part) for part in text.split(":")]
    sizes = [(int(part[1]), int(part[2])) for part in parts if part]
    if len(sizes) < len(parts) or len(sizes) > _MOST_SIZES:
        raise SettingError(
            f"The size {text!r} is neither WIDTHxHEIGHT, LEAST:MOST nor LEAST:BEST:MOST, each "
            "written as WIDTHxHEIGHT."
        )
    return SizeRange(
        _span([size[0] for size in sizes], width, text),
        _span([size[1] for size in sizes], height, text),
    )


def default_ranges(manifest: Manifest) -> Ranges:
    """What plans are built for where nobody says otherwise."""
    return Ranges(
        batch=parse_span(DEFAULT_BATCH, 2),
        chunks=parse_span(DEFAULT_CHUNKS, 1),
        sizes=default_sizes(manifest, single=False),
    )


def default_sizes(manifest: Manifest, *, single: bool) -> tuple[SizeRange, ...]:
    """The bundle's own size, and everything from half of it to twice.

    Args:
        manifest: the bundle's.
        single: whether there may be one range only, which is then the second.
    """
    width, height = manifest.defaults.width, manifest.defaults.height
    step = manifest.latents.downscale
    own = SizeRange(Span(width, width, width), Span(height, height, height))
    every = SizeRange(
        Span(_multiple(width // 2, step), width, width * 2),
        Span(_multiple(height // 2, step), height, height * 2),
    )
    return (every,) if single else (own, every)


def make_profiles(manifest: Manifest, component: str, ranges: Ranges) -> tuple[Profile, ...]:
    """The optimisation profiles of a component's plan, each once.

    The VAE takes one picture at a time, which keeps its working memory small.

    Args:
        manifest: the bundle's.
        component: its name in the layout.
        ranges: what is wanted. A size that the graph is fixed to takes the place of its range.

    Raises:
        SettingError: the latents of a size are no whole numbers, or the graph is fixed to a size,
            batch or text length that is not in the range.
    """
    spec = manifest.components[component]
    fixed = fixed_axes(component, spec)
    profiles: list[Profile] = []
    for size in ranges.sizes:
        spans = _spans(manifest, component, size, ranges)
        _check_fixed(component, spans, fixed)
        spans |= {axis: Span(number, number, number) for axis, number in fixed.items()}
        profile = {tensor.name: _shapes(component, tensor, spans) for tensor in spec.inputs}
        if profile not in profiles:
            profiles.append(profile)
    return tuple(profiles)


def describe_profile(profile: Profile) -> str:
    """The ranges of every input, for people."""
    return ", ".join(
        f"{name} {_dimensions(shapes.min)}..{_dimensions(shapes.max)}"
        for name, shapes in profile.items()
    )


def _dimensions(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _span(numbers: list[int], best: int, text: str) -> Span:
    least, most = numbers[0], numbers[-1]
    best = numbers[1] if len(numbers) == _MOST_SIZES else min(max(best, least), most)
    if not least <= best <= most:
        raise SettingError(f"The range {text!r} is not in ascending order.")
    return Span(least, best, most)


def _multiple(pixels: int, step: int) -> int:
    """The largest multiple of `step` that is not larger, but one step at least."""
    return max(pixels // step, 1) * step


def _spans(manifest: Manifest, component: str, size: SizeRange, ranges: Ranges) -> dict[str, Span]:
    """The range of each of the layout's dynamic axes."""
    step = manifest.latents.downscale
    batch = {
        layout.TEXT_ENCODER: Span(1, 2, max(ranges.batch.most, 2 * ranges.chunks.most)),
        layout.UNET: ranges.batch,
    }
    return {
        "batch": batch.get(component, Span(1, 1, 1)),
        "tokens": ranges.chunks.times(layout.CHUNK_TOKENS),
        "picture_width": size.width,
        "picture_height": size.height,
        "width": _latents("width", size.width, step),
        "height": _latents("height", size.height, step),
    }


def _latents(name: str, pixels: Span, step: int) -> Span:
    for number in (pixels.least, pixels.best, pixels.most):
        if number % step:
            raise SettingError(f"The {name} {number} is not a multiple of {step} pixels.")
    return Span(pixels.least // step, pixels.best // step, pixels.most // step)


def _check_fixed(component: str, spans: Mapping[str, Span], fixed: Mapping[str, int]) -> None:
    for axis, number in fixed.items():
        if axis == "batch" and component != layout.UNET:  # nobody asked for a range of it
            continue
        span = spans[axis]
        if not span.least <= number <= span.most:
            raise SettingError(
                f"The {component} of the bundle is fixed to {axis} {number}, which is not in the "
                f"range {span.least} to {span.most} that was asked for. Change the range, or "
                "export the bundle without --static."
            )


def _shapes(component: str, tensor: TensorSpec, spans: Mapping[str, Span]) -> ShapeRange:
    axes = layout.COMPONENTS[component].inputs[tensor.name]
    dimensions = [
        Span(size, size, size) if isinstance(size, int) else spans[str(axis)]
        for axis, size in zip(axes, tensor.shape, strict=True)
    ]
    return ShapeRange(
        min=tuple(span.least for span in dimensions),
        opt=tuple(span.best for span in dimensions),
        max=tuple(span.most for span in dimensions),
    )
