"""Which picture gets a slot next, and what the worker does between two rows.

A policy without threads, engines or a clock of its own: the worker follows it in earnest, tests
and the simulation in benchmarks/ follow it with times that they make up.

Among the pictures that wait, the most urgent goes first; a priority rises by one for every
`AGEING_SECONDS` that one of its pictures has waited, so none starves. Within a priority, clients
share by work and not by number of requests: fair queueing by start tags (Goyal, Vin and Cheng,
SIGCOMM 1996, section 2), in which each picture's cost is its rows times its latent size times its
entries of the UNet's batch. Virtual time goes on by what is served, divided among the clients that
wait, as in weighted fair queueing (Demers, Keshav and Shenker, SIGCOMM 1989, section 2.2), so that
a client is not passed for ever by new ones that come once. Within a client, first come is first
served.

A picture takes as many slots as it is larger than the bundle's default, and as it has more entries,
of prompts that AND joins, than a prompt with guidance. So a row of such pictures is no longer, and
takes no more memory, than one of usual ones. Whoever is next is waited for until there is room, and
not passed by smaller ones; what is too large for all slots goes alone.

Between two rows of the pictures that are being denoised there is at most one other call of an
engine: for the pictures of one job that start, or for one picture that leaves the denoiser. The two
take turns.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

AGEING_SECONDS = 60.0
"""How long a picture waits until it counts as one priority more urgent."""


class Priority(IntEnum):
    """How urgent a job is; the lower number goes first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


@dataclass(frozen=True, eq=False)
class Ticket:
    """One picture's place in the queue.

    Attributes:
        job: whose picture it is; the pictures of one job share calls of the text encoder.
        client: who asked; clients share the server evenly.
        priority: how urgent it is.
        cost: the work it takes, in any unit that is the same for all.
        arrived: when it came, in seconds of any clock.
        slots: how many it takes, at least 1.
    """

    job: str
    client: str
    priority: Priority
    cost: float
    arrived: float
    slots: float = 1.0


@dataclass(frozen=True)
class Start:
    """Make the next call that these pictures of one job need before they are denoised, if any."""

    tickets: tuple[Ticket, ...]


@dataclass(frozen=True)
class Finish:
    """Make the next call that this picture needs after it was denoised."""

    ticket: Ticket


@dataclass(frozen=True)
class Advance:
    """Advance every picture that is being denoised by one row."""


Action = Start | Finish | Advance


class Scheduler:
    """Where each picture stands: it waits, starts, is denoised, and leaves.

    Attributes:
        slots: pictures of the default size that are denoised at once at most.
    """

    def __init__(self, slots: int) -> None:
        """Denoise at most `slots` pictures at once."""
        self.slots = slots
        self._waiting: list[Ticket] = []
        self._starting: list[Ticket] = []
        self._running: list[Ticket] = []
        self._denoised: deque[Ticket] = deque()
        self._returning: set[Ticket] = set()
        self._virtual_time = 0.0
        self._tags: dict[str, float] = {}
        self._row_is_due = False
        self._started_last = False

    @property
    def waiting(self) -> tuple[Ticket, ...]:
        """The pictures that have no slot yet, in the order in which they came."""
        return tuple(self._waiting)

    @property
    def running(self) -> tuple[Ticket, ...]:
        """The pictures that are being denoised."""
        return tuple(self._running)

    @property
    def holding(self) -> tuple[Ticket, ...]:
        """The pictures that hold slots: those that start, are denoised, or will be again."""
        return (*self._starting, *self._running, *self._returning)

    def submit(self, tickets: Iterable[Ticket]) -> None:
        """Let pictures wait for a slot."""
        for ticket in tickets:
            if ticket.client not in self._waiting_clients():
                tag = self._tags.get(ticket.client, 0.0)
                self._tags[ticket.client] = max(self._virtual_time, tag)
            self._waiting.append(ticket)

    def discard(self, ticket: Ticket) -> None:
        """Forget a picture wherever it is; one that is not here is none of ours."""
        for place in (self._waiting, self._starting, self._running, self._denoised):
            if ticket in place:
                place.remove(ticket)
        self._returning.discard(ticket)

    def mark_joined(self, ticket: Ticket) -> None:
        """A picture has been started, or has a second pass: from now on it is denoised."""
        for place in (self._starting, self._denoised):
            if ticket in place:
                place.remove(ticket)
        self._returning.discard(ticket)
        self._running.append(ticket)

    def mark_denoised(self, ticket: Ticket, *, returns: bool = False) -> None:
        """Let a picture wait for the VAE; one that `returns` for a second pass keeps its slot."""
        self._running.remove(ticket)
        self._denoised.append(ticket)
        if returns:
            self._returning.add(ticket)

    def mark_last(self, ticket: Ticket) -> None:
        """Free the slot of a denoised picture, which does not return after all."""
        self._returning.discard(ticket)

    def mark_call(self) -> None:
        """An engine was called for something else than a row: now a row is due."""
        self._row_is_due = True

    def next_action(self, now: float) -> Action | None:
        """What to do now, or None where nothing is to be done.

        The caller does it, and says what came of it: `mark_call`, and `mark_joined`,
        `mark_denoised` or `discard` for a picture that has come to its next stage. A Start or
        Finish after which its pictures are where they were comes again.

        Args:
            now: the time, on the clock of `Ticket.arrived`.
        """
        aside = None if self._running and self._row_is_due else self._aside(now)
        if aside is not None:
            return aside
        self._row_is_due = False
        return Advance() if self._running else None

    def _aside(self, now: float) -> Start | Finish | None:
        if not (self._denoised and self._started_last):
            if not self._starting:
                self._admit(now)
            if self._starting:
                self._started_last = True
                return Start(tuple(self._starting))
        if self._denoised:
            self._started_last = False
            return Finish(self._denoised[0])
        return None

    def _admit(self, now: float) -> None:
        """Let the most urgent picture start, and those of its job that are next after it."""
        while self._waiting:
            ticket = self._most_urgent(now)
            of_another_job = self._starting and ticket.job != self._starting[0].job
            if of_another_job or not self._has_room(ticket):
                return
            self._waiting.remove(ticket)
            self._starting.append(ticket)
            self._charge(ticket)

    def _has_room(self, ticket: Ticket) -> bool:
        taken = sum(other.slots for other in self.holding)
        return not taken or taken + ticket.slots <= self.slots

    def _most_urgent(self, now: float) -> Ticket:
        """Of equals the first that came, for `min` takes that."""
        risen: dict[Priority, int] = {}
        for ticket in self._waiting:
            waited = int((now - ticket.arrived) / AGEING_SECONDS)
            risen[ticket.priority] = max(waited, risen.get(ticket.priority, 0))

        def urgency(ticket: Ticket) -> tuple[int, float]:
            rank = max(0, ticket.priority - risen[ticket.priority])
            return rank, self._tags[ticket.client]

        return min(self._waiting, key=urgency)

    def _charge(self, ticket: Ticket) -> None:
        """Count a picture's cost, when it has left those that wait."""
        waiting = self._waiting_clients()
        self._tags[ticket.client] += ticket.cost
        self._virtual_time += ticket.cost / len({ticket.client, *waiting})
        past = [client for client, tag in self._tags.items() if tag <= self._virtual_time]
        for client in past:
            if client not in waiting:
                del self._tags[client]

    def _waiting_clients(self) -> set[str]:
        return {ticket.client for ticket in self._waiting}
