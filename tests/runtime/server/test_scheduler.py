"""The policy on a clock of our own: who goes first, and what stands between two rows."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.server.scheduler import (
    AGEING_SECONDS,
    Advance,
    Finish,
    Priority,
    Scheduler,
    Start,
    Ticket,
)


def ticket(
    job: str,
    client: str = "a",
    priority: Priority = Priority.NORMAL,
    cost: float = 20,
    arrived: float = 0,
) -> Ticket:
    return Ticket(job, client, priority, cost, arrived)


def started(scheduler: Scheduler, now: float = 0) -> list[str]:
    """The order in which everything that waits is started, one slot at a time."""
    order = []
    while scheduler.waiting:
        action = scheduler.next_action(now)
        if isinstance(action, Start):
            for each in action.tickets:
                order.append(each.job)
                scheduler.mark_denoised(each)
    return order


def test_first_come_first_served_within_a_client() -> None:
    scheduler = Scheduler(slots=1)
    scheduler.submit([ticket("1"), ticket("2"), ticket("3")])
    assert started(scheduler) == ["1", "2", "3"]


def test_clients_take_turns_however_much_one_of_them_asks() -> None:
    scheduler = Scheduler(slots=1)
    scheduler.submit([ticket(f"a{i}") for i in range(4)])
    scheduler.submit([ticket(f"b{i}", "b") for i in range(2)])
    assert started(scheduler) == ["a0", "b0", "a1", "b1", "a2", "a3"]


def test_clients_share_by_work_and_not_by_pictures() -> None:
    """One of 100 rows weighs as much as five of 20."""
    scheduler = Scheduler(slots=1)
    scheduler.submit([ticket(f"large{i}", cost=100) for i in range(2)])
    scheduler.submit([ticket(f"small{i}", "b") for i in range(9)])
    order = started(scheduler)
    assert order.index("large1") == 6


def test_a_client_that_was_away_gets_no_credit_for_it() -> None:
    scheduler = Scheduler(slots=1)
    scheduler.submit([ticket(f"a{i}") for i in range(4)])
    for _ in range(2):
        action = scheduler.next_action(0)
        assert isinstance(action, Start)
        scheduler.mark_denoised(action.tickets[0])
        scheduler.next_action(0)
    scheduler.submit([ticket(f"b{i}", "b") for i in range(3)])
    order = started(scheduler)
    assert Counter(job[0] for job in order[:2]) == {"a": 1, "b": 1}


def test_the_urgent_go_first_and_the_others_rise_while_they_wait() -> None:
    scheduler = Scheduler(slots=1)
    scheduler.submit(
        [
            ticket("low", priority=Priority.LOW),
            ticket("normal", "b"),
            ticket("high", "c", Priority.HIGH),
        ]
    )
    assert started(scheduler) == ["high", "normal", "low"]
    old = ticket("old", priority=Priority.LOW)
    new = ticket("new", "b", Priority.HIGH, arrived=2 * AGEING_SECONDS)
    scheduler.submit([old, new])
    assert started(scheduler, now=2 * AGEING_SECONDS - 1) == ["new", "old"]
    scheduler.submit([old, new])
    assert started(scheduler, now=2 * AGEING_SECONDS) == ["old", "new"]


def test_pictures_of_one_job_start_together_where_it_is_their_turn() -> None:
    scheduler = Scheduler(slots=3)
    first, second, third = ticket("1"), ticket("1"), ticket("2", "b")
    scheduler.submit([first, second, third])
    assert scheduler.next_action(0) == Start((first,))  # then it is b's turn
    assert scheduler.next_action(0) == Advance()
    assert scheduler.next_action(0) == Start((third,))
    assert scheduler.next_action(0) == Advance()
    assert scheduler.next_action(0) == Start((second,))
    alone = Scheduler(slots=3)
    alone.submit([first, second])
    assert alone.next_action(0) == Start((first, second))


def test_between_two_rows_there_is_one_other_call_at_most() -> None:
    """Starts and decodings take turns, so that neither keeps the other waiting."""
    scheduler = Scheduler(slots=3)
    tickets = [ticket(str(i), str(i)) for i in range(6)]
    scheduler.submit(tickets)
    for _ in range(3):
        assert isinstance(scheduler.next_action(0), Start)
        assert scheduler.next_action(0) == Advance()
    scheduler.mark_denoised(tickets[0])
    scheduler.mark_denoised(tickets[1])
    seen = [scheduler.next_action(0) for _ in range(8)]
    assert seen[1::2] == [Advance()] * 4
    assert [type(action) for action in seen[::2]] == [Finish, Start, Finish, Start]


def test_nothing_to_do() -> None:
    scheduler = Scheduler(slots=1)
    assert scheduler.next_action(0) is None
    only = ticket("1")
    scheduler.submit([only])
    scheduler.next_action(0)
    scheduler.discard(only)
    scheduler.discard(only)
    assert scheduler.next_action(0) is None


@given(
    slots=st.integers(1, 5),
    jobs=st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 6), st.sampled_from("abc"), st.integers(0, 2)),
        max_size=12,
    ),
)
def test_every_picture_is_made_once_and_rows_are_never_held_up(
    slots: int, jobs: list[tuple[int, int, str, int]]
) -> None:
    scheduler = Scheduler(slots)
    left: dict[Ticket, int] = {}
    for number, (count, rows, client, priority) in enumerate(jobs):
        tickets = [ticket(str(number), client, Priority(priority), rows) for _ in range(count)]
        left.update(dict.fromkeys(tickets, rows))
        scheduler.submit(tickets)
    finished: list[Ticket] = []
    aside = 0
    while (action := scheduler.next_action(0)) is not None:
        match action:
            case Advance():
                aside = 0
                for each in scheduler.running:
                    left[each] -= 1
                    if not left[each]:
                        scheduler.mark_denoised(each)
                continue
            case Start(together):
                assert len({each.job for each in together}) == 1
                busy = len(scheduler.running) > len(together)
            case Finish(each):
                finished.append(each)
                busy = bool(scheduler.running)
        assert len(scheduler.running) <= slots
        aside = aside + 1 if busy else 0
        assert aside <= 1
    assert sorted(map(id, finished)) == sorted(map(id, left))
    assert not any(left.values())


@pytest.mark.parametrize("slots", [1, 4])
def test_fewer_slots_take_effect_when_pictures_leave(slots: int) -> None:
    scheduler = Scheduler(slots)
    tickets = [ticket("1") for _ in range(5)]
    scheduler.submit(tickets)
    scheduler.next_action(0)
    scheduler.slots = 1
    for each in tickets[: slots - 1]:
        scheduler.mark_denoised(each)
    assert len(scheduler.running) == 1
    seen = {type(scheduler.next_action(0)) for _ in range(6)}
    assert Start not in seen
