"""What an engine library's failure means to the user, in one line."""

from typing import Final

from engines.backends.shortage import failure_kind
from engines.errors import BackendError, OutOfMemoryError

_SHORT_OF_MEMORY: Final = (
    "There was too little memory: choose a smaller size, fewer pictures at once, or a machine with "
    "more memory. "
)


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
