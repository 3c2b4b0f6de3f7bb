"""Finished pictures to PNG files, in a thread beside the worker's."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from runtime.png import Picture
from runtime.server.faults import Fault, fault_of
from runtime.server.jobs import Job, State
from runtime.server.logs import logged_under
from runtime.server.metrics import Metrics

log = logging.getLogger(__name__)

End = Callable[[Job, State, Fault | None], None]
"""Ends a job in a state, for a reason where it failed."""


class Delivery:
    """Compresses pictures, which takes as long as some rows, and hands them to their jobs."""

    def __init__(self, metrics: Metrics, end: End) -> None:
        """Deliver to jobs, which `end` is called for when they are complete or fail."""
        self._metrics = metrics
        self._end = end
        self._thread = ThreadPoolExecutor(1, "png")

    def send(self, job: Job, index: int, picture: Picture) -> None:
        """Deliver one picture soon."""
        self._metrics.pictures.inc()
        self._thread.submit(self._deliver, job, index, picture)

    def close(self) -> None:
        """Deliver the pictures that there are; whoever sends them must have ended."""
        self._thread.shutdown()

    def _deliver(self, job: Job, index: int, picture: Picture) -> None:
        if job.status.ended:
            return
        try:
            with self._metrics.stage.labels("png").time():
                png = picture.png()
            if job.deliver(index, png):
                self._end(job, State.DONE, None)
        except Exception as error:
            with logged_under(job.request_id):
                log.exception("job %s: a picture could not be written", job.id)
            self._end(job, State.FAILED, fault_of(error))
