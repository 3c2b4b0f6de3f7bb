"""Failures for want of memory, where an engine library says it in words alone: told, and named."""

import re
from typing import Final

from engines.errors import BackendError, OutOfMemoryError

_SHORTAGE: Final = re.compile(
    r"out[ _]?of[ _]?memory"
    r"|bad[ _]alloc"
    r"|insufficient memory"
    r"|alloc(?:ation)?_failed"
    r"|(?:failed to|could not|cannot|can't|unable to) allocate (?:memory(?! for incompatible)|\d)",
    re.IGNORECASE,
)
"""The words of ONNX Runtime's arenas, OpenVINO and oneDNN, CUDA and its libraries, TensorRT ("Error
Code 2: OutOfMemory"), and the C++ library. OpenVINO "failed to allocate" registers as well, and
memory "for incompatible descriptors": a smaller call would fail likewise."""

_SHORT_OF_MEMORY: Final = (
    "There was too little memory: choose a smaller size, fewer pictures at once, or a machine with "
    "more memory. "
)


def failure_kind(reason: BaseException | str) -> type[BackendError]:
    """What to raise for a failure: OutOfMemoryError where memory was short, else BackendError.

    Args:
        reason: what the library raised or logged.
    """
    short = isinstance(reason, MemoryError) or _SHORTAGE.search(str(reason))
    return OutOfMemoryError if short else BackendError


def failure(what: str, error: Exception) -> BackendError:
    """The error to raise; its text begins with what to do where memory was short.

    Args:
        what: what failed, such as "OpenVINO failed while running".
        error: what the library raised; its own text may go over several lines.
    """
    reason = " ".join(str(error).split()) or type(error).__name__
    kind = failure_kind(error)
    advice = _SHORT_OF_MEMORY if kind is OutOfMemoryError else ""
    return kind(f"{advice}{what}: {reason}")
