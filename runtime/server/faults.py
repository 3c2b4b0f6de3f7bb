"""One table from the kind of a fault to its HTTP status; each protocol's body follows from it.

Ours is `{"error": {"kind", "message", "field", "request_id"}}`. AUTOMATIC1111's webui answers
`{"error", "detail", "body", "errors"}` (modules/api/api.py, `handle_exception`), OpenAI
`{"error": {"message", "type", "param", "code"}}` (their API reference, "Error codes").
"""

from dataclasses import dataclass
from enum import StrEnum

from engines.errors import BackendError, UserError
from engines.identity import Json


class Kind(StrEnum):
    """What went wrong."""

    INVALID = "invalid_request"
    UNAUTHORIZED = "unauthorized"
    NOT_FOUND = "not_found"
    METHOD = "method_not_allowed"
    SLOW = "request_timeout"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    BUSY = "busy"
    CANCELLED = "cancelled"
    ENGINE = "engine_error"
    INTERNAL = "internal_error"
    UNAVAILABLE = "unavailable"
    DEADLINE = "deadline_exceeded"


STATUS = {
    Kind.INVALID: 400,
    Kind.UNAUTHORIZED: 401,
    Kind.NOT_FOUND: 404,
    Kind.METHOD: 405,
    Kind.SLOW: 408,
    Kind.CONFLICT: 409,
    Kind.TOO_LARGE: 413,
    Kind.BUSY: 429,
    Kind.CANCELLED: 409,
    Kind.ENGINE: 500,
    Kind.INTERNAL: 500,
    Kind.UNAVAILABLE: 503,
    Kind.DEADLINE: 504,
}

_OPENAI_TYPES = {
    Kind.UNAUTHORIZED: "authentication_error",
    Kind.BUSY: "rate_limit_error",
    Kind.ENGINE: "server_error",
    Kind.INTERNAL: "server_error",
    Kind.UNAVAILABLE: "server_error",
    Kind.DEADLINE: "server_error",
}


@dataclass(frozen=True)
class Fault:
    """A fault as clients see it.

    Attributes:
        kind: decides the status.
        message: for people; what was wrong, with what value, and what to do next.
        field: the field of the request that is wrong, where it is one.
        retry_after: seconds after which another try makes sense.
    """

    kind: Kind
    message: str
    field: str | None = None
    retry_after: int | None = None

    @property
    def status(self) -> int:
        """The HTTP status."""
        return STATUS[self.kind]

    def headers(self) -> dict[str, str]:
        """The headers that belong to the answer."""
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.kind is Kind.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Basic realm="fracture-sd", charset="UTF-8", Bearer'
        return headers


class FaultError(Exception):
    """Ends a request with a fault."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def fault_of(error: BaseException) -> Fault:
    """What clients are told of an exception: of our own bugs only that there was one."""
    match error:
        case FaultError():
            return error.fault
        case BackendError():
            return Fault(Kind.ENGINE, str(error))
        case UserError():
            return Fault(Kind.INVALID, str(error))
        case _:
            return Fault(
                Kind.INTERNAL,
                "The server made a mistake; its log has the details under this request's id.",
            )


def body_of(fault: Fault, path: str, request_id: str) -> dict[str, Json]:
    """The body of the answer in the protocol to which `path` belongs."""
    # what clients sent may stand in it, and JSON can hold halves of characters, which UTF-8 cannot
    message = fault.message.encode(errors="backslashreplace").decode()
    field = fault.field and fault.field.encode(errors="backslashreplace").decode()
    if path.startswith("/sdapi/"):
        return {
            "error": fault.kind.value,
            "detail": message,
            "body": field or "",
            "errors": message,
        }
    if path.startswith(("/v1/images/", "/v1/models")):
        return {
            "error": {
                "message": message,
                "type": _OPENAI_TYPES.get(fault.kind, "invalid_request_error"),
                "param": field,
                "code": fault.kind.value,
            }
        }
    return {
        "error": {
            "kind": fault.kind.value,
            "message": message,
            "field": field,
            "request_id": request_id,
        }
    }
