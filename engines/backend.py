"""Which backends there are, which of them work here, and which one `auto` takes."""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from engines import layout
from engines.bundle import Bundle
from engines.errors import BackendError, SettingError

if TYPE_CHECKING:  # it brings numpy along, which `--help` does without
    from engines.session import Session

AUTO = "auto"


class Backend(Protocol):
    """One way to run a bundle's graphs."""

    @property
    def name(self) -> str:
        """The name that `--backend` takes."""

    @property
    def device(self) -> str:
        """What it computes on, in words, for `runtime info` and the metadata of pictures."""

    def unavailable(self, bundle: Bundle) -> str | None:
        """Why this machine or bundle cannot use the backend, and what would change that."""

    def open_session(self, bundle: Bundle, component: str) -> "Session":
        """Load one component's graph.

        Raises:
            BackendError: the engine library refuses it.
        """


@dataclass(frozen=True)
class Choice:
    """A backend and the reason why it was taken."""

    backend: Backend
    reason: str


_MODULES = {
    "openvino": "engines.backends.openvino",
    "cpu": "engines.backends.cpu",
}

OPENVINO_FROM_BYTES = 100_000_000
"""Below this size of UNet, compiling for OpenVINO costs more seconds than it ever saves."""


def backend_names() -> list[str]:
    """Every name that `--backend` takes, `auto` first."""
    return [AUTO, *_MODULES]


def choose_backend(name: str, bundle: Bundle) -> Choice:
    """Take the backend `name`, or with `auto` the fastest that machine and bundle have.

    Raises:
        SettingError: no backend has that name.
        BackendError: the named backend cannot be used here.
    """
    if name == AUTO:
        return _choose_automatically(bundle)
    backend = _load(name)
    reason = backend.unavailable(bundle)
    if reason is not None:
        raise BackendError(f"The backend {name} cannot be used: {reason}")
    return Choice(backend, "asked for")


def survey(bundle: Bundle) -> dict[str, str]:
    """For each backend, `available` or why it is not, in the order in which `auto` tries."""
    return {name: _load(name).unavailable(bundle) or "available" for name in _MODULES}


def _choose_automatically(bundle: Bundle) -> Choice:
    passed: list[str] = []
    for name in _MODULES:
        backend = _load(name)
        reason = backend.unavailable(bundle)
        if reason is None and name == "openvino":
            size = bundle.weights_size(layout.UNET)
            if size < OPENVINO_FROM_BYTES:
                reason = f"its compilation does not pay for a UNet of {size / 1e6:.0f} MB"
        if reason is None:
            why = "the fastest here" + (f" ({'; '.join(passed)})" if passed else "")
            return Choice(backend, why)
        passed.append(f"not {name}: {reason}")
    raise BackendError(
        "No backend works here: " + "; ".join(passed) + ". Run: pip install 'fracture-sd[cpu]'"
    )


def _load(name: str) -> Backend:
    if name not in _MODULES:
        raise SettingError(f"No backend {name!r}; choose one of {', '.join(backend_names())}.")
    backend: Backend = importlib.import_module(_MODULES[name]).BACKEND
    return backend
