"""The two roots of every exception: the user's errors and our own bugs.

A `UserError` is answered with one line and exit status 1: its message says what was wrong, with
what value, and what to do next. Anything else that escapes is a bug and keeps its traceback.
"""


class UserError(Exception):
    """Something the user can put right; the message says how."""


class InputError(UserError):
    """A file or directory that was given is missing, damaged or of the wrong kind."""


class SettingError(UserError):
    """An option or request has a value that is not possible."""


class OutputError(UserError):
    """An output cannot be written, or is there already and may not be replaced."""


class BundleError(UserError):
    """A bundle is foreign, damaged, stale, or of a revision that this version does not know."""


class BackendError(UserError):
    """A backend, provider or device that was asked for is not there or failed."""


class OutOfMemoryError(BackendError):
    """The device or the machine has too little memory for the call; a smaller one may do."""


class MissingExtraError(UserError):
    """A package is not installed that the command needs; the message has the pip line."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed. "
            f"Run: pip install 'fracture-sd[{extra}]'"
        )


class InternalError(Exception):
    """A contract between two parts of this program was broken: a bug, never the user's fault."""
