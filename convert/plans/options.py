"""What a build may be told apart from its ranges, and what TensorRT for RTX does not take."""

from dataclasses import dataclass
from typing import Final

from engines.errors import SettingError

NO_COMPATIBILITY: Final = "none"
SAME_CAPABILITY: Final = "same-compute-capability"
AMPERE_PLUS: Final = "ampere-plus"
HARDWARE_COMPATIBILITY: Final = (NO_COMPATIBILITY, SAME_CAPABILITY, AMPERE_PLUS)

LEVELS: Final = range(6)
"""What TensorRT's builder optimisation level may be; 3 is its default."""

AMPERE: Final = (8, 0)


@dataclass(frozen=True)
class BuildOptions:
    """How plans are built.

    Args:
        optimization_level: one of `LEVELS`; None leaves it to TensorRT.
        hardware_compatibility: one of `HARDWARE_COMPATIBILITY`.
        version_compatible: whether plans run with later versions of TensorRT, too.
        batch_invariant: whether an entry's result may not depend on its place in the batch
            (TensorRT's DISTRIBUTIVE_INDEPENDENCE, which allows one range of sizes only).
        workspace: bytes of GPU memory for one layer's scratch; None for no limit.
        weight_streaming: whether weights may stay in host memory while plans run.
        strip: whether plans are left without weights, to be refitted when they are loaded.
    """

    optimization_level: int | None = None
    hardware_compatibility: str = NO_COMPATIBILITY
    version_compatible: bool = False
    batch_invariant: bool = False
    workspace: int | None = None
    weight_streaming: bool = False
    strip: bool = False


def check_single_range(options: BuildOptions, sizes: int) -> None:
    """Refuse a batch-invariant plan with several profiles, which TensorRT does not build.

    Raises:
        SettingError: there are several ranges of sizes.
    """
    if options.batch_invariant and sizes > 1:
        raise SettingError(
            f"--batch-invariant allows one --size, not {sizes}: give one range that holds them "
            "all, as in 256x256:1024x1024."
        )


def check_rtx_options(options: BuildOptions, *, gpu: bool) -> None:
    """Refuse what TensorRT for RTX cannot build.

    Args:
        options: what is asked for.
        gpu: whether there is a GPU on this machine.

    Raises:
        SettingError: the error says which option, and what to do instead.
    """
    if options.hardware_compatibility != NO_COMPATIBILITY:
        raise SettingError(
            "TensorRT for RTX has no --hardware-compatibility: one plan serves several "
            "architectures. Name them with --target."
        )
    if options.version_compatible:
        raise SettingError(
            "TensorRT for RTX comes without the lean runtime that --version-compatible needs. "
            "Leave it out, and build again after an update."
        )
    if options.strip and not gpu:
        raise SettingError(
            "TensorRT for RTX needs a GPU to build with --strip, and there is none here. Leave "
            "it out, or build on a machine with an RTX card."
        )
