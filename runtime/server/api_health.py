"""Whether the server lives, whether it is ready, and its figures."""

from fastapi import APIRouter, Response
from pydantic import BaseModel

from engines import __version__
from runtime.server.metrics import CONTENT_TYPE
from runtime.server.service import Service


class Alive(BaseModel):
    """The process answers."""

    status: str = "alive"
    version: str = __version__


class Readiness(BaseModel):
    """Whether requests should come here, and if not, why."""

    ready: bool
    reason: str | None = None


def health_router(service: Service) -> APIRouter:
    """The routes for load balancers and Prometheus."""
    router = APIRouter(tags=["health"])

    @router.head("/healthz", include_in_schema=False)
    @router.get("/healthz")
    async def alive() -> Alive:
        """The process answers."""
        return Alive()

    @router.head("/readyz", include_in_schema=False)
    @router.get("/readyz", responses={503: {"model": Readiness}})
    async def ready(response: Response) -> Readiness:
        """Whether requests should come here: 200 or 503."""
        reason = service.why_not_ready()
        response.status_code = 503 if reason else 200
        return Readiness(ready=reason is None, reason=reason)

    @router.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """The figures in Prometheus' text format."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    return router
