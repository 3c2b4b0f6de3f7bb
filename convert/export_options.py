"""What an export may be told: the dtype of each graph, the opset, and sizes that are fixed."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from engines import layout
from engines.errors import SettingError

DTYPES: Final = ("fp16", "fp32")

OPSETS: Final = range(18, 24)
"""The ONNX opsets that graphs can be written in; the first is the oldest that torch writes."""

ATTENTION_OPSET: Final = 23
"""From this opset on attention is one operator, and there is nothing to arrange for OpenVINO."""

OPENVINO_ARRANGEMENT: Final = 1
"""The revision of the UNet's graph for OpenVINO; bundles with another are exported again."""

_STATIC: Final = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})(?:x([1-9]\d{0,3}))?")


@dataclass(frozen=True)
class StaticShape:
    """Sizes that graphs are fixed to: a picture's in pixels and, where given, the batch."""

    width: int
    height: int
    batch: int | None

    def axes(self, downscale: int) -> dict[str, int]:
        """The layout's axes that this fixes; a fixed batch fixes the text to one chunk as well.

        Args:
            downscale: pixels per latent along one side.

        Raises:
            SettingError: a side is no multiple of that.
        """
        for name, side in (("width", self.width), ("height", self.height)):
            if side % downscale:
                raise SettingError(f"The static {name} {side} is not a multiple of {downscale}.")
        sizes = {
            "height": self.height // downscale,
            "width": self.width // downscale,
            "picture_height": self.height,
            "picture_width": self.width,
        }
        if self.batch is not None:
            sizes |= {"batch": self.batch, "tokens": layout.CHUNK_TOKENS}
        return sizes


@dataclass(frozen=True)
class ExportOptions:
    """What `convert export` does with the fused model, in the words of recipe and command line.

    `dtype` is `fp16` or `fp32`, and after it any `COMPONENT=DTYPE`, with commas between them;
    `opset` is one of `OPSETS`; `static` is `WIDTHxHEIGHT`, `WIDTHxHEIGHTxBATCH`, or empty.

    The default opset is the oldest: from 23 on there is an ONNX Attention, for which TensorRT for
    RTX lacks the VAE's head size.
    """

    dtype: str = "fp16"
    opset: int = OPSETS[0]
    static: str = ""


def parse_dtypes(text: str) -> dict[str, str]:
    """The dtype of each of the layout's components.

    Args:
        text: as `ExportOptions.dtype` has it.

    Raises:
        SettingError: it names no dtype for all, an unknown dtype or component, or one twice.
    """
    general, *particular = (part.strip() for part in text.split(","))
    _check_dtype(general, text)
    dtypes: dict[str, str] = {}
    for part in particular:
        component, _, dtype = part.partition("=")
        if component not in layout.COMPONENTS:
            raise SettingError(
                f"The dtype {text!r} names no component with {part!r}: write COMPONENT=DTYPE with "
                f"one of {', '.join(layout.COMPONENTS)}."
            )
        if component in dtypes:
            raise SettingError(f"The dtype {text!r} names {component} twice.")
        _check_dtype(dtype, text)
        dtypes[component] = dtype
    return {component: dtypes.get(component, general) for component in layout.COMPONENTS}


def parse_static(text: str) -> StaticShape | None:
    """The sizes that graphs are fixed to; None where every size stays dynamic.

    Args:
        text: as `ExportOptions.static` has it.

    Raises:
        SettingError: it has another form.
    """
    if not text:
        return None
    match = _STATIC.fullmatch(text)
    if match is None:
        raise SettingError(
            f"The static shape {text!r} is neither WIDTHxHEIGHT nor WIDTHxHEIGHTxBATCH."
        )
    width, height, batch = match.groups()
    return StaticShape(int(width), int(height), int(batch) if batch else None)


def check_opset(opset: int) -> None:
    """Refuse an opset that graphs are not written in.

    Raises:
        SettingError: it is none of `OPSETS`.
    """
    if opset not in OPSETS:
        raise SettingError(f"The opset {opset} is not in {OPSETS[0]} to {OPSETS[-1]}.")


def option_faults(options: ExportOptions) -> Iterator[str]:
    """What is wrong with options, each as the option's name and a sentence."""
    checks: dict[str, Callable[[], object]] = {
        "dtype": lambda: parse_dtypes(options.dtype),
        "opset": lambda: check_opset(options.opset),
        "static": lambda: parse_static(options.static),
    }
    for name, check in checks.items():
        try:
            check()
        except SettingError as error:
            yield f"{name}: {error}"


def _check_dtype(dtype: str, text: str) -> None:
    if dtype not in DTYPES:
        raise SettingError(f"The dtype {dtype!r} in {text!r} is not one of {', '.join(DTYPES)}.")
