"""Which GPU architectures plans are built for."""

from collections.abc import Sequence
from typing import Final

from engines.errors import SettingError
from engines.plans import TENSORRT, capability

RTX_TARGETS: Final = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
"""Everything that TensorRT for RTX builds for, from Turing to Blackwell's workstation cards."""

_DATA_CENTRE: Final = {
    "sm70": "V100",
    "sm87": "Jetson Orin",
    "sm90": "H100, H200",
    "sm100": "B200",
    "sm101": "Jetson Thor",
    "sm103": "B300",
    "sm110": "Jetson Thor",
}


def parse_targets(text: str) -> tuple[str, ...]:
    """Architectures, ascending and each once.

    Args:
        text: their names with commas between them, as in `sm86,sm89`.

    Raises:
        SettingError: one is not written so.
    """
    targets = {part.strip().lower() for part in text.split(",")}
    for target in targets:
        try:
            capability(target)
        except ValueError:
            raise SettingError(
                f"The target {target!r} is no GPU architecture: write sm and the compute "
                "capability without its point, as in sm86,sm89."
            ) from None
    return tuple(sorted(targets, key=capability))


def check_rtx_targets(targets: Sequence[str]) -> None:
    """Refuse architectures that TensorRT for RTX does not build for.

    Raises:
        SettingError: the error names them, and what builds for them.
    """
    unknown = [target for target in targets if target not in RTX_TARGETS]
    if not unknown:
        return
    named = ", ".join(
        f"{target} ({_DATA_CENTRE[target]})" if target in _DATA_CENTRE else target
        for target in unknown
    )
    advice = (
        f" Run convert build --backend {TENSORRT} on a machine with that GPU."
        if any(target in _DATA_CENTRE for target in unknown)
        else ""
    )
    raise SettingError(
        f"TensorRT for RTX does not build for {named}; it builds for {', '.join(RTX_TARGETS)}."
        + advice
    )
