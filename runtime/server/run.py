"""One picture of a job on its way through the server."""

import dataclasses
from dataclasses import dataclass

from engines.manifest import Defaults
from runtime.hires import HiresSettings
from runtime.request import Settings
from runtime.samplers.table import Table
from runtime.server.capacity import ENTRIES
from runtime.server.jobs import Job
from runtime.server.scheduler import Ticket
from runtime.server.task import Task
from runtime.slot import Slot


@dataclass(eq=False)
class Run:
    """A picture and where it stands.

    Attributes:
        job: whose picture it is.
        index: which of the job's.
        table: the sampler's, of its first pass.
        ticket: its place in the queue.
        task: what is being done for it before or after it is denoised.
        slot: its run in the denoiser, of its first or second pass, once it has begun.
        earlier: that of its first pass, once `slot` is that of its second.
        began: when its first pass was begun, on the monotonic clock.
        in_last_pass: whether `slot` is that of its last pass.
        stopped: whether it is finished as it is, before its last row.
    """

    job: Job
    index: int
    table: Table
    ticket: Ticket
    task: Task | None = None
    slot: Slot | None = None
    earlier: Slot | None = None
    began: float = 0.0
    in_last_pass: bool = False
    stopped: bool = False

    @property
    def settings(self) -> Settings:
        """What it is made of; where it was stopped before its second pass, it has none."""
        settings = self.job.settings[self.index]
        if self.stopped and not self.in_last_pass:
            return dataclasses.replace(settings, hires=None)
        return settings

    @property
    def row(self) -> int:
        """The row at which its pass stands; 0 before it has begun."""
        return 0 if self.slot is None else self.slot.row

    @property
    def shows(self) -> bool:
        """Whether there is anything of it: before its first row there is only noise."""
        return self.row > 0 or self.earlier is not None

    def stop(self) -> None:
        """Finish it as it is; before the first row of its second pass, as its first pass left it.

        It has left the denoiser, or will before its next row.
        """
        self.stopped = True
        if not self.row:
            self.slot, self.in_last_pass = self.earlier, False

    @property
    def returns(self) -> bool:
        """Whether it has another pass when this one is over."""
        return not self.in_last_pass and self.settings.hires is not None


def make_runs(job: Job, table: Table, entries: int, defaults: Defaults) -> list[Run]:
    """The runs of a new job.

    Args:
        job: the job.
        table: the sampler's, for the first pass of each of its pictures.
        entries: of the UNet's batch, as many as each of its pictures takes.
        defaults: the bundle's, in whose size pictures are counted.
    """
    return [
        Run(job, index, table, _ticket(job, index, table, entries, defaults))
        for index in range(len(job.settings))
    ]


def _ticket(job: Job, index: int, table: Table, entries: int, defaults: Defaults) -> Ticket:
    settings, share = job.settings[index], entries / ENTRIES
    first = _relative_size(settings, defaults)
    last = _relative_size(settings.hires or settings, defaults)
    rows_to_follow = job.rows[index] - table.rows
    cost = share * (table.rows * first + rows_to_follow * last)
    slots = max(1.0, share * max(1.0, first, last))
    return Ticket(job.id, job.client, job.priority, cost, job.created, slots)


def _relative_size(size: Settings | HiresSettings, defaults: Defaults) -> float:
    """How many pictures of the bundle's default size have as many pixels as one of this size."""
    return size.width * size.height / (defaults.width * defaults.height)
