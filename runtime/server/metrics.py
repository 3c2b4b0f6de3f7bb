"""What Prometheus is told, in a registry of the app's own."""

from collections.abc import Callable, Iterable
from enum import StrEnum

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from engines import __version__
from runtime.server.faults import Kind
from runtime.server.jobs import ENDED

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_STAGE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_ROW_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)

STAGES = ("text", "encode", "denoise", "decode", "probe")
"""The calls of engines that may fail while the server serves: those that make a picture, and those
that see whether engines work again."""


class Closed(StrEnum):
    """Why the server closed a connection to protect itself."""

    SILENT = "silent"
    """It made room for another."""

    REFUSED = "refused"
    """There was no room."""

    SLOW_HEAD = "slow_head"
    SLOW_READER = "slow_reader"


class Metrics:
    """Every figure of the server. Labels are few and fixed: no prompts, ids or client names.

    Attributes:
        rows: rows that pictures have advanced, together.
        pictures: finished pictures.
        jobs: ended jobs, by `state` (done, failed, cancelled).
        refusals: requests that were answered with a fault, by `kind`.
        engine_failures: calls of an engine that failed, by `stage`.
        job: seconds of a job from its submission to its end, by `state`.
        stage: seconds by `stage`: of a picture (wait, denoise, png), and of each call (text,
            encode, decode).
        row: seconds of each call that advanced pictures by a row.
        requests: answered HTTP requests, by `method`, `route` and `status`.
        request: seconds of each HTTP request until its answer was sent, by `route`.
        connections_closed: connections that the server closed to protect itself, by `reason`.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # half of all series else
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        registry = self._registry
        self.rows = Counter(
            "fracture_rows", "Rows by which pictures have advanced", registry=registry
        )
        self.pictures = Counter("fracture_pictures", "Finished pictures", registry=registry)
        self.jobs = _counter(
            registry, "fracture_jobs", "Ended jobs", "state", sorted(state.value for state in ENDED)
        )
        self.refusals = _counter(
            registry, "fracture_refusals", "Requests answered with a fault", "kind", Kind
        )
        self.engine_failures = _counter(
            registry, "fracture_engine_failures", "Failed calls of an engine", "stage", STAGES
        )
        self.job = Histogram(
            "fracture_job_seconds",
            "Seconds of a job from its submission to its end",
            ["state"],
            buckets=_STAGE_BUCKETS,
            registry=registry,
        )
        self.stage = Histogram(
            "fracture_stage_seconds",
            "Seconds of a picture or of a call in each stage",
            ["stage"],
            buckets=_STAGE_BUCKETS,
            registry=registry,
        )
        self.row = Histogram(
            "fracture_row_seconds",
            "Seconds of one row of all pictures in progress",
            buckets=_ROW_BUCKETS,
            registry=registry,
        )
        self.requests = Counter(
            "fracture_http_requests",
            "Answered HTTP requests",
            ["method", "route", "status"],
            registry=registry,
        )
        self.request = Histogram(
            "fracture_http_request_seconds",
            "Seconds of an HTTP request until its answer was sent",
            ["route"],
            buckets=_STAGE_BUCKETS,
            registry=registry,
        )
        self.connections_closed = _counter(
            registry,
            "fracture_http_connections_closed",
            "Connections that the server closed to protect itself",
            "reason",
            Closed,
        )
        self._info = Info("fracture", "What the server runs", registry=registry)
        build = Info("fracture_build", "The program", registry=registry)
        build.info({"version": __version__})

    def describe(self, **facts: str) -> None:
        """State what is served: the bundle, its identity, the engine and the device."""
        self._info.info(facts)

    def observe_gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Publish a figure that is read whenever it is asked for."""
        Gauge(name, text, registry=self._registry).set_function(read)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)


def _counter(
    registry: CollectorRegistry, name: str, text: str, label: str, values: Iterable[str]
) -> Counter:
    """A counter that starts at zero for every value of its label: rates need a first sample."""
    counter = Counter(name, text, [label], registry=registry)
    for value in values:
        counter.labels(str(value))
    return counter
