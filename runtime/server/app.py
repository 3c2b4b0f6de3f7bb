"""The app, put together from its parts."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from engines import __version__
from engines.errors import UserError
from runtime.server.api_a1111 import a1111_router
from runtime.server.api_health import health_router
from runtime.server.api_jobs import jobs_router
from runtime.server.api_openai import openai_router
from runtime.server.api_page import page_router
from runtime.server.auth import Authenticator
from runtime.server.fault_bodies import FaultBody, OpenAiFaultBody, WebuiFaultBody
from runtime.server.faults import STATUS, Fault, FaultError, Kind, fault_of
from runtime.server.middleware import (
    Authentication,
    BodyLimit,
    ConnectionLimit,
    RequestContext,
    answer,
)
from runtime.server.service import Service

_KINDS = {status: kind for kind, status in reversed(STATUS.items())}


def create_app(service: Service) -> ASGIApp:
    """The app around a service, which runs as long as the app does."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    api = FastAPI(
        title="fracture-sd",
        version=__version__,
        summary=f"Pictures of the bundle {service.manifest.name}",
        lifespan=lifespan,
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
    )
    for make_router, body in (
        (health_router, FaultBody),
        (jobs_router, FaultBody),
        (a1111_router, WebuiFaultBody),
        (openai_router, OpenAiFaultBody),
    ):
        fault = {"model": body, "description": "A fault"}
        api.include_router(make_router(service), responses={"default": fault})
    api.include_router(page_router())

    async def refuse(http: Request, error: Exception) -> JSONResponse:
        fault = _fault(http, error)
        service.metrics.refusals.labels(fault.kind.value).inc()
        return answer(fault, http.url.path)

    for kind in (RequestValidationError, HTTPException, FaultError, UserError, Exception):
        api.add_exception_handler(kind, refuse)

    settings = service.settings
    app: ASGIApp = BodyLimit(api, settings.max_body, settings.body_timeout)
    app = Authentication(app, Authenticator(settings.keys))
    app = ConnectionLimit(app, service.connections)
    app = RequestContext(app, service.metrics)
    if settings.cors:  # outermost, so that pages may read what the others refuse
        app = CORSMiddleware(
            app,
            allow_origins=settings.cors,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=["Location", "Retry-After", "X-Request-ID"],
        )
    return app


def _fault(http: Request, error: Exception) -> Fault:
    match error:
        case RequestValidationError():
            return _fault_of_body(error)
        case HTTPException(__cause__=FaultError() as cause):  # while the body was read
            return cause.fault
        case HTTPException():
            kind = _KINDS.get(error.status_code, Kind.INVALID)
            return Fault(kind, f"{http.method} {http.url.path}: {error.detail}.")
        case _:
            return fault_of(error)


def _fault_of_body(error: RequestValidationError) -> Fault:
    """Every field that is wrong, in one message."""
    places = []
    for fault in error.errors():
        where = ".".join(str(part) for part in fault["loc"] if part != "body")
        places.append((where, str(fault["msg"])))
    message = "; ".join(f"{where}: {what}" if where else what for where, what in places)
    return Fault(Kind.INVALID, f"The request is not possible: {message}.", places[0][0] or None)
