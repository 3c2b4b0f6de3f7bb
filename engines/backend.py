"""Which backends there are, which of them work here, and which one `auto` takes."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from engines import layout
from engines.axes import Limits
from engines.bundle import Bundle
from engines.errors import BackendError, SettingError
from engines.interrupts import interrupts_wait

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

    @property
    def max_batch(self) -> int:
        """Entries of one UNet call beyond which a picture costs no less; guidance takes two."""

    def unavailable(self, bundle: Bundle) -> str | None:
        """Why this machine or bundle cannot use the backend, and what would change that."""

    def limits(self, bundle: Bundle) -> Limits:
        """The sizes that the bundle's graphs take on this backend."""

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


_BACKENDS = {
    "tensorrt": "engines.backends.tensorrt:BACKEND",
    "tensorrt-rtx": "engines.backends.tensorrt_rtx:BACKEND",
    "cuda": "engines.backends.cuda:BACKEND",
    "cuda-graph": "engines.backends.cuda:BACKEND_WITH_GRAPHS",
    "ort-tensorrt-rtx": "engines.backends.ort_tensorrt_rtx:BACKEND",
    "openvino": "engines.backends.openvino:BACKEND",
    "cpu": "engines.backends.cpu:BACKEND",
}
"""Where each backend is, the fastest first: the order in which `auto` tries."""

_BY_NAME_ONLY = frozenset({"cuda-graph", "ort-tensorrt-rtx"})
"""What `auto` leaves alone: each costs memory or a long start that has to be wanted."""

OPENVINO_FROM_BYTES = 100_000_000
"""Below this size of UNet, compiling for OpenVINO costs more seconds than it ever saves."""


def backend_names() -> list[str]:
    """Every name that `--backend` takes, `auto` first."""
    return [AUTO, *_BACKENDS]


def choose_backend(name: str, bundle: Bundle) -> Choice:
    """Take the backend `name`, or with `auto` the fastest that machine and bundle have.

    Raises:
        SettingError: no backend has that name.
        BackendError: the named backend cannot be used here.
    """
    if name == AUTO:
        return _choose_automatically(bundle)
    backend = _load(name)
    reason = _why_unavailable(backend, bundle)
    if reason is not None:
        raise BackendError(f"The backend {name} cannot be used: {reason}")
    return Choice(backend, "asked for")


def survey(bundle: Bundle) -> dict[str, str]:
    """For each backend, `available` or why it is not, the fastest first."""
    return {name: _why_unavailable(_load(name), bundle) or "available" for name in _BACKENDS}


def _choose_automatically(bundle: Bundle) -> Choice:
    passed: dict[str, list[str]] = {}
    for name in _BACKENDS:
        if name in _BY_NAME_ONLY:
            continue
        backend = _load(name)
        reason = _why_it_does_not_pay(name, bundle) or _why_unavailable(backend, bundle)
        if reason is None:
            why = "the fastest here" + (f" ({_listed(passed)})" if passed else "")
            return Choice(backend, why)
        passed.setdefault(reason, []).append(name)
    raise BackendError(
        f"No backend works here: {_listed(passed)}. Run: pip install 'fracture-sd[cpu]'"
    )


def _why_it_does_not_pay(name: str, bundle: Bundle) -> str | None:
    """Why a backend is not worth its start for a bundle; asked before its library is imported."""
    size = bundle.weights_size(layout.UNET)
    if name != "openvino" or size >= OPENVINO_FROM_BYTES:
        return None
    return f"its compilation does not pay for a UNet of {size / 1e6:.0f} MB"


def _why_unavailable(backend: Backend, bundle: Bundle) -> str | None:
    """What `unavailable` says; it imports the engine's library, which must not be interrupted."""
    with interrupts_wait():
        return backend.unavailable(bundle)


def _listed(passed: Mapping[str, list[str]]) -> str:
    """Why backends were passed over, each reason once."""
    return "; ".join(f"not {', '.join(names)}: {reason}" for reason, names in passed.items())


def _load(name: str) -> Backend:
    if name not in _BACKENDS:
        raise SettingError(f"No backend {name!r}; choose one of {', '.join(backend_names())}.")
    module, _, attribute = _BACKENDS[name].partition(":")
    backend: Backend = getattr(importlib.import_module(module), attribute)
    return backend
