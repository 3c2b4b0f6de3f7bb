"""The TensorRT module, and what it logs."""

import importlib
import re
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

from convert.plans.api import TensorRt
from engines.errors import BackendError, MissingExtraError
from engines.plans import TENSORRT, TENSORRT_RTX

MODULES: Final = {TENSORRT: "tensorrt", TENSORRT_RTX: "tensorrt_rtx"}
"""The module of each backend; its extra is named like the backend."""

_REMEMBERED: Final = 8
_NOISE: Final = ("catchCudaError", "Thread context has not been set", "Make sure input")
_SOURCE_PLACE: Final = re.compile(r"\s+In \S+ at /\S+?:\d+")
_CALL: Final = re.compile(r"^\S+: Error Code \d+: [\w ]+\((.*)\)$", re.DOTALL)


def open_library(module: str, backend: str) -> TensorRt:
    """Import TensorRT.

    Args:
        module: the module's name.
        backend: the backend that it is for.

    Raises:
        MissingExtraError: it is not installed.
        BackendError: it is installed and cannot be loaded.
    """
    try:
        return cast(TensorRt, importlib.import_module(module))
    except ModuleNotFoundError as error:
        if error.name != module:
            raise BackendError(_broken(module, backend, error)) from error
        raise MissingExtraError(
            module.replace("_", "-"), backend, f"convert build --backend {backend}"
        ) from None
    except (ImportError, OSError) as error:
        raise BackendError(_broken(module, backend, error)) from error


def make_logger(library: TensorRt, warn: Callable[[str], None]) -> tuple[Any, deque[str]]:
    """A logger for TensorRT, and the errors that it has been told of, the last few.

    Args:
        library: the module.
        warn: called with each warning.
    """
    errors: deque[str] = deque(maxlen=_REMEMBERED)
    base = library.ILogger

    class Logger(base):  # type: ignore[misc, valid-type]
        """Keeps errors and passes warnings on."""

        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if any(noise in msg for noise in _NOISE):
                return
            if severity <= base.ERROR:
                errors.append(msg)
            elif severity == base.WARNING:
                warn(plain(msg))

    return Logger(), errors


def plain(message: str) -> str:
    """A message of TensorRT's without its call, its error code and its own source's places."""
    lines = [line for line in message.splitlines() if not any(noise in line for noise in _NOISE)]
    text = " ".join(_SOURCE_PLACE.sub("", line).strip() for line in lines)
    match = _CALL.match(text)
    return (match[1] if match else text).strip().rstrip(".")


def _broken(module: str, backend: str, error: Exception) -> str:
    return (
        f"{module} is installed but cannot be loaded: {error}. "
        f"Run: pip install --force-reinstall 'fracture-sd[{backend}]'"
    )
