"""Logs that machines can read, each line under the id of the request that it belongs to."""

import contextlib
import contextvars
import json
import logging
import re
import secrets
import sys
import time
from collections.abc import Iterator

REQUEST_ID: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
"""The id of the request that is being answered."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def request_id_of(given: str | None) -> str:
    """The id that the caller gave a request, or a new one where it gave none that is sane."""
    return given if given and _ID.fullmatch(given) else secrets.token_hex(8)


@contextlib.contextmanager
def logged_under(request_id: str) -> Iterator[None]:
    """Have what is logged within belong to a request, in whatever thread."""
    token = REQUEST_ID.set(request_id)
    try:
        yield
    finally:
        REQUEST_ID.reset(token)


class TextFormatter(logging.Formatter):
    """One line for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s%(request)s: %(line)s")
        self.default_msec_format = "%s.%03d"

    def format(self, record: logging.LogRecord) -> str:
        """As the base does it, with the request's id."""
        request_id = REQUEST_ID.get()
        record.request = f" [{request_id}]" if request_id else ""
        # what clients sent may stand in it, and must not look like another line
        record.line = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], record.getMessage())
        return super().format(record)


class JsonFormatter(logging.Formatter):
    """One JSON object a line; what was logged under `extra={"fields": {...}}` is in it."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": REQUEST_ID.get() or None,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def configure_logs(form: str, *, quiet: bool) -> None:
    """Send every log to stderr in one form, uvicorn's too.

    Args:
        form: "text" or "json".
        quiet: warnings and errors only.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(
        level=logging.WARNING if quiet else logging.INFO, handlers=[handler], force=True
    )
