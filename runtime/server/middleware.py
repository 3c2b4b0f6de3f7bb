"""What every request passes on its way in: an id, limits on connections and bodies, a name."""

import logging
import time
from collections.abc import Awaitable, Callable

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.server.api_page import PREFIX as PAGE_FILES
from runtime.server.auth import Authenticator
from runtime.server.connections import Connections
from runtime.server.faults import Fault, FaultError, Kind, body_of, fault_of
from runtime.server.logs import REQUEST_ID, request_id_of
from runtime.server.metrics import Metrics

log = logging.getLogger(__name__)

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
"""Those that are counted by name; anybody can make up others."""

_HEALTH_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
_RETRY_WHILE_CROWDED = 5

OPEN_PATHS = ("/healthz", "/readyz", "/v1/images/files/", PAGE_FILES)
"""Beginnings of paths that need no key: what is there tells nothing, or is signed.

The page itself is at `/`, with which every path begins."""

SCRIPTS_CHALLENGE = 'Bearer realm="fracture-sd"'
"""Scripts of browsers ask for the key themselves: at `Basic` the browser's own dialog would."""


def answer(fault: Fault, path: str) -> JSONResponse:
    """The answer that tells of a fault in the protocol to which `path` belongs."""
    return JSONResponse(body_of(fault, path, REQUEST_ID.get()), fault.status, fault.headers())


class RequestContext:
    """Outermost: gives each request an id, logs and counts its answer, and survives bugs."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(Headers(scope=scope).get("x-request-id"))
        token = REQUEST_ID.set(request_id)
        began, status = time.monotonic(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            if not isinstance(error, FaultError):
                log.exception("%s %s failed", scope["method"], scope["path"])
            if not status:
                fault = fault_of(error)
                self._metrics.refusals.labels(fault.kind.value).inc()
                response = answer(fault, scope["path"])
                if fault.kind is Kind.UNAUTHORIZED and _is_of_a_script(scope):
                    response.headers["WWW-Authenticate"] = SCRIPTS_CHALLENGE
                await response(scope, receive, send_with_id)
        finally:
            self._report(scope, status, time.monotonic() - began)
            REQUEST_ID.reset(token)

    def _report(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.request.labels(route).observe(seconds)
        probed = scope["path"] in _HEALTH_PATHS and status == 200
        log.log(
            logging.DEBUG if probed else logging.INFO,
            "%s %s %d in %.3f s",
            scope["method"],
            scope["path"],
            status,
            seconds,
            extra={
                "fields": {
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "seconds": round(seconds, 4),
                    "client": scope.get("state", {}).get("client"),
                }
            },
        )


class ConnectionLimit:
    """Answers nothing but questions about the server's health while there are too many clients."""

    def __init__(self, app: ASGIApp, connections: Connections) -> None:
        self._app = app
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request pass, or raise."""
        if (
            scope["type"] == "http"
            and self._connections.crowded
            and scope["path"] not in _HEALTH_PATHS
        ):
            raise FaultError(
                Fault(
                    Kind.UNAVAILABLE,
                    "The server has as many connections as it takes. Try again later.",
                    retry_after=_RETRY_WHILE_CROWDED,
                )
            )
        await self._app(scope, receive, send)


class Authentication:
    """Puts the caller's name into the request's state, or refuses it."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request pass, or raise."""
        if scope["type"] == "http" and not _is_open(scope["path"]):
            address = scope["client"][0] if scope.get("client") else "local"
            header = Headers(scope=scope).get("authorization")
            scope.setdefault("state", {})["client"] = self._authenticator.client(header, address)
        await self._app(scope, receive, send)


def _is_of_a_script(scope: Scope) -> bool:
    return "x-requested-with" in Headers(scope=scope)


def _is_open(path: str) -> bool:
    return path == "/" or path.startswith(OPEN_PATHS)


class BodyLimit:
    """Refuses bodies that are too large or too slow, before they are in memory."""

    def __init__(self, app: ASGIApp, most: int, seconds: float) -> None:
        self._app = app
        self._most = most
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request pass with a limit on what it may still send."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdecimal() and int(length) > self._most:
            raise self._too_large()
        await self._app(scope, self._limited(receive), send)

    def _limited(self, receive: Receive) -> Callable[[], Awaitable[Message]]:
        until = anyio.current_time() + self._seconds
        received, complete = 0, False

        async def limited() -> Message:
            nonlocal received, complete
            if complete:
                return await receive()
            try:
                with anyio.fail_after(until - anyio.current_time()):
                    message = await receive()
            except TimeoutError:
                raise FaultError(
                    Fault(Kind.SLOW, f"The request was not here within {self._seconds:g} seconds.")
                ) from None
            received += len(message.get("body", b""))
            if received > self._most:
                raise self._too_large()
            complete = not message.get("more_body", False)
            return message

        return limited

    def _too_large(self) -> FaultError:
        return FaultError(
            Fault(Kind.TOO_LARGE, f"The request is too large: {self._most} bytes are the most.")
        )
