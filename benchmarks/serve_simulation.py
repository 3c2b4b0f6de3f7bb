"""What step-level batching brings, simulated: python -m benchmarks.serve_simulation.

The server's own scheduling policy (`runtime.server.scheduler`) on a simulated clock, against one
picture at a time and against static batches, with the same arrivals. Nothing here was measured on
a GPU of ours: the seconds of a row come from a published pair of figures, and a row of another
number of pictures lies on the line through them.
"""

import itertools
import json
import random
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.arrivals import KINDS, Arrival, measure
from runtime.server.scheduler import Advance, Finish, Priority, Scheduler, Start, Ticket

SOURCE = (
    "ONNX Runtime's README of stable_diffusion: A100 PCIe 80 GB, TensorRT, 512x512, 50 steps: "
    "1.00 s for 1 picture, 3.39 s for 4"
)
PUBLISHED = {1: 1.00 / 50, 4: 3.39 / 50}
"""Seconds of a row, by pictures with guidance in one call."""

TEXT_SECONDS = 0.002
DECODE_SECONDS = 0.023
"""NVIDIA's demo on a GPU that it does not name: text encoder 1.97 ms, VAE 22.6 ms."""

SLOTS = 4
STEPS = ((8, 0.1), (20, 0.6), (30, 0.2), (50, 0.1))
PICTURES = 2000


def seconds_of_row(pictures: int) -> float:
    """The line through the published figures."""
    (few, short), (many, long) = sorted(PUBLISHED.items())
    return short + (pictures - few) * (long - short) / (many - few)


def one_at_a_time(arrivals: Sequence[Arrival]) -> list[float]:
    """First come, first served, alone. Returns when each picture is finished."""
    now, finished = 0.0, []
    for each in arrivals:
        now = max(now, each.at) + TEXT_SECONDS + each.steps * seconds_of_row(1) + DECODE_SECONDS
        finished.append(now)
    return finished


def static_batches(arrivals: Sequence[Arrival], slots: int = SLOTS) -> list[float]:
    """Those that wait start together and leave together, as servers of whole pictures batch.

    Pictures of a batch must have the same number of steps there: those that do, in the order in
    which they came.
    """
    finished = dict.fromkeys(range(len(arrivals)), 0.0)
    waiting: deque[int] = deque()
    coming = deque(range(len(arrivals)))
    now = 0.0
    while coming or waiting:
        if not waiting:
            now = max(now, arrivals[coming[0]].at)
        while coming and arrivals[coming[0]].at <= now:
            waiting.append(coming.popleft())
        steps = arrivals[waiting[0]].steps
        batch = [i for i in waiting if arrivals[i].steps == steps][:slots]
        for i in batch:
            waiting.remove(i)
        now += TEXT_SECONDS + steps * seconds_of_row(len(batch)) + len(batch) * DECODE_SECONDS
        finished.update(dict.fromkeys(batch, now))
    return list(finished.values())


def continuous(arrivals: Sequence[Arrival], slots: int = SLOTS) -> list[float]:
    """The server's policy. Returns when each picture is finished."""
    scheduler = Scheduler(slots)
    tickets = [
        Ticket(str(i), "all", Priority.NORMAL, a.steps, a.at) for i, a in enumerate(arrivals)
    ]
    left = {ticket: each.steps for ticket, each in zip(tickets, arrivals, strict=True)}
    finished: dict[Ticket, float] = {}
    coming = deque(tickets)
    now = 0.0
    while len(finished) < len(tickets):
        while coming and coming[0].arrived <= now:
            scheduler.submit([coming.popleft()])
        match scheduler.next_action(now):
            case None:
                now = coming[0].arrived
            case Start(together):
                now += TEXT_SECONDS
                scheduler.mark_call()
                for ticket in together:
                    scheduler.mark_joined(ticket)
            case Finish(ticket):
                now += DECODE_SECONDS
                scheduler.mark_call()
                scheduler.discard(ticket)
                finished[ticket] = now
            case Advance():
                now += seconds_of_row(len(scheduler.running))
                for ticket in scheduler.running:
                    left[ticket] -= 1
                    if not left[ticket]:
                        scheduler.mark_denoised(ticket)
    return [finished[ticket] for ticket in tickets]


POLICIES: dict[str, Callable[[Sequence[Arrival]], list[float]]] = {
    "one at a time": one_at_a_time,
    f"static batches of {SLOTS}": static_batches,
    f"continuous, {SLOTS} slots": continuous,
}


def run(pictures: int = PICTURES) -> list[dict[str, str | float]]:
    """Every policy under every kind and rate of arrivals."""
    mean = sum(steps * share for steps, share in STEPS)
    alone = 1 / (TEXT_SECONDS + mean * seconds_of_row(1) + DECODE_SECONDS)
    results: list[dict[str, str | float]] = []
    for (kind, arrive), load in itertools.product(KINDS.items(), (0.5, 0.8, 1.0, 1.1)):
        arrivals = list(arrive(load * alone, pictures, STEPS, random.Random(0)))
        for name, policy in POLICIES.items():
            figures = measure(arrivals, policy(arrivals))
            results.append({"arrivals": kind, "load": load, "policy": name, **figures})
    return results


def main() -> int:
    """Simulate, print a table, and save the figures."""
    results = run()
    print("load is of what one picture at a time could do\n")
    print(
        f"{'arrivals':10}{'load':>5}  {'policy':22}{'pictures/s':>11}{'p50':>8}{'p95':>8}{'p99':>8}"
    )
    for row in results:
        print(
            f"{row['arrivals']:10}{row['load']:5}  {row['policy']:22}"
            f"{row['pictures_per_second']:11.2f}{row['p50']:8.2f}{row['p95']:8.2f}{row['p99']:8.2f}"
        )
    out = Path(__file__).parent / "results" / "serve_simulation.json"
    out.write_text(
        json.dumps({"simulated": True, "source": SOURCE, "runs": results}, indent=1) + "\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
