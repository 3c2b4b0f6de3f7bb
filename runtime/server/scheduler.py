"""Which picture gets a slot next, and what the worker does between two rows.

A policy without threads, engines or a clock of its own: the worker follows it in earnest, tests
and the simulation in benchmarks/ follow it with times that they make up.

Among the pictures that wait, the most urgent goes first; a picture rises one priority for every
`AGEING_SECONDS` that it has waited, so none starves. Within a priority, clients share by work and
not by number of requests: start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996,
section 2), in which each picture's cost is its rows times its latent size. Within a client, first
come is first served.

Between two rows of the pictures that are being denoised there is at most one other thing: the
pictures of one job start (one call of the text encoder), or one finished picture is decoded (one
call of the VAE). The two take turns.
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
        job: whose picture it is; the pictures of one job share the call of the text encoder.
        client: who asked; clients share the server evenly.
        priority: how urgent it is.
        cost: the work it takes, in any unit that is the same for all.
        arrived: when it came, in seconds of any clock.
    """

    job: str
    client: str
    priority: Priority
    cost: float
    arrived: float


@dataclass(frozen=True)
class Start:
    """Encode the text of these pictures, which are of one job, and let them join."""

    tickets: tuple[Ticket, ...]


@dataclass(frozen=True)
class Finish:
    """Decode this picture."""

    ticket: Ticket


@dataclass(frozen=True)
class Advance:
    """Advance every picture that is being denoised by one row."""


Action = Start | Finish | Advance


class Scheduler:
    """The queue, the slots, and the pictures that wait for the VAE."""

    def __init__(self, slots: int) -> None:
        """Denoise at most `slots` pictures at once."""
        self.slots = slots
        self._waiting: list[Ticket] = []
        self._running: list[Ticket] = []
        self._denoised: deque[Ticket] = deque()
        self._virtual_time = 0.0
        self._finish_tags: dict[str, float] = {}
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
    def denoised(self) -> tuple[Ticket, ...]:
        """The pictures that wait for the VAE."""
        return tuple(self._denoised)

    def submit(self, tickets: Iterable[Ticket]) -> None:
        """Let pictures wait for a slot."""
        self._waiting.extend(tickets)

    def discard(self, ticket: Ticket) -> None:
        """Forget a picture wherever it is; one that is not here is none of ours."""
        for place in (self._waiting, self._running, self._denoised):
            if ticket in place:
                place.remove(ticket)

    def mark_denoised(self, ticket: Ticket) -> None:
        """Free a picture's slot and let it wait for the VAE."""
        self._running.remove(ticket)
        self._denoised.append(ticket)

    def resume(self, ticket: Ticket) -> None:
        """Let a picture that was finished with be denoised again, for it has a second pass.

        It does not wait again, even where that makes one more than there are slots.
        """
        self._running.append(ticket)

    def next_action(self, now: float) -> Action | None:
        """What to do now, or None where nothing is to be done; the caller does it.

        Args:
            now: the time, on the clock of `Ticket.arrived`.
        """
        if self._running and self._row_is_due:
            self._row_is_due = False
            return Advance()
        aside = self._aside(now)
        if aside is not None:
            self._row_is_due = True
            return aside
        self._row_is_due = False
        return Advance() if self._running else None

    def _aside(self, now: float) -> Start | Finish | None:
        can_start = bool(self._waiting) and len(self._running) < self.slots
        if can_start and not (self._denoised and self._started_last):
            self._started_last = True
            return self._start(now)
        if self._denoised:
            self._started_last = False
            return Finish(self._denoised.popleft())
        return None

    def _start(self, now: float) -> Start:
        first = self._most_urgent(now)
        taken = []
        while self._waiting and len(self._running) < self.slots:
            ticket = self._most_urgent(now)
            if ticket.job != first.job:
                break
            self._waiting.remove(ticket)
            self._running.append(ticket)
            self._charge(ticket)
            taken.append(ticket)
        return Start(tuple(taken))

    def _most_urgent(self, now: float) -> Ticket:
        """Of equals the first that came, for `min` takes that."""

        def urgency(ticket: Ticket) -> tuple[int, float]:
            risen = max(0, int((now - ticket.arrived) / AGEING_SECONDS))
            return max(0, ticket.priority - risen), self._start_tag(ticket.client)

        return min(self._waiting, key=urgency)

    def _start_tag(self, client: str) -> float:
        return max(self._virtual_time, self._finish_tags.get(client, 0.0))

    def _charge(self, ticket: Ticket) -> None:
        start = self._start_tag(ticket.client)
        self._virtual_time = start
        self._finish_tags[ticket.client] = start + ticket.cost
        for client in [c for c, tag in self._finish_tags.items() if tag <= self._virtual_time]:
            del self._finish_tags[client]
