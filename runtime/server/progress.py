"""What jobs are told of each row: how far they are, and at times what they look like."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from runtime.server.jobs import Job
from runtime.server.logs import logged_under
from runtime.server.run import Run

log = logging.getLogger(__name__)

PREVIEW_SECONDS = 0.25
"""How often a job that someone looks at shows what it is at: each time costs a millisecond."""


class Progress:
    """Tells jobs of their progress, in the thread that makes it."""

    def __init__(self, preview: Callable[[Run], bytes | None]) -> None:
        """Show of a run what `preview` makes of it, a small picture file, or None."""
        self._preview = preview

    @contextmanager
    def told(self, runs: Sequence[Run]) -> Iterator[None]:
        """Advance runs within this context; their jobs are told of it at its end."""
        before = [run.row for run in runs]
        yield
        rows: dict[Job, int] = {}
        firsts: dict[Job, Run] = {}
        for run, row in zip(runs, before, strict=True):
            rows[run.job] = rows.get(run.job, 0) + run.row - row
            firsts.setdefault(run.job, run)
        now = time.monotonic()
        for job, advanced in rows.items():
            shown = None
            if job.wants_previews and now - job.previewed >= PREVIEW_SECONDS:
                job.previewed = now
                shown = self._show(firsts[job])
            job.add_rows(advanced, shown)

    def _show(self, run: Run) -> bytes | None:
        try:
            return self._preview(run)
        except Exception:  # the picture itself may well be finished
            with logged_under(run.job.request_id):
                log.exception("job %s: no more pictures in progress", run.job.id)
            run.job.wants_previews = False
            return None
