"""The policy on a clock of our own: who goes first, and what stands between two rows."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.server.scheduler import (
    AGEING_SECONDS,
    Action,
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
    slots: float = 1,
) -> Ticket:
    return Ticket(job, client, priority, cost, arrived, slots)


def follow(scheduler: Scheduler, now: float = 0) -> Action | None:
    """Get the next action and say that it took one call, and that was all."""
    action = scheduler.next_action(now)
    match action:
        case Start(tickets):
            scheduler.mark_call()
            for each in tickets:
                scheduler.mark_joined(each)
        case Finish(each):
            scheduler.mark_call()
            scheduler.discard(each)
    return action


def start_next(scheduler: Scheduler, now: float = 0) -> list[str]:
    """Let the next pictures start and be denoised at once; returns their jobs."""
    while not isinstance(action := follow(scheduler, now), Start):
        assert action is not None
    for each in action.tickets:
        scheduler.mark_denoised(each)
    return [each.job for each in action.tickets]


def started(scheduler: Scheduler, now: float = 0) -> list[str]:
    """The order in which everything that waits is started, one slot at a time."""
    order: list[str] = []
    while scheduler.waiting:
        order += start_next(scheduler, now)
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
        start_next(scheduler)
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
    risen = 2 * AGEING_SECONDS
    for now, order in ((risen - 1, ["new", "old"]), (risen, ["old", "new"])):
        old = ticket("old", priority=Priority.LOW)
        new = ticket("new", "b", Priority.HIGH, arrived=risen)
        scheduler.submit([old, new])
        assert started(scheduler, now) == order


def test_pictures_of_one_job_start_together_where_it_is_their_turn() -> None:
    scheduler = Scheduler(slots=3)
    first, second, third = ticket("1"), ticket("1"), ticket("2", "b")
    scheduler.submit([first, second, third])
    assert follow(scheduler) == Start((first,))  # then it is b's turn
    assert follow(scheduler) == Advance()
    assert follow(scheduler) == Start((third,))
    assert follow(scheduler) == Advance()
    assert follow(scheduler) == Start((second,))
    alone = Scheduler(slots=3)
    alone.submit([first, second])
    assert alone.next_action(0) == Start((first, second))


def test_between_two_rows_there_is_one_other_call_at_most() -> None:
    """Starts and decodings take turns, so that neither keeps the other waiting."""
    scheduler = Scheduler(slots=3)
    tickets = [ticket(str(i), str(i)) for i in range(6)]
    scheduler.submit(tickets)
    for _ in range(3):
        assert isinstance(follow(scheduler), Start)
        assert follow(scheduler) == Advance()
    scheduler.mark_denoised(tickets[0])
    scheduler.mark_denoised(tickets[1])
    seen = [follow(scheduler) for _ in range(8)]
    assert seen[1::2] == [Advance()] * 4
    assert [type(action) for action in seen[::2]] == [Finish, Start, Finish, Start]


def test_work_of_several_calls_comes_again_until_it_is_done() -> None:
    scheduler = Scheduler(slots=3)
    first, second, third = ticket("1"), ticket("2", "b"), ticket("2", "b")
    scheduler.submit([first])
    follow(scheduler)
    scheduler.submit([second, third])
    follow(scheduler)
    for _ in range(3):
        assert scheduler.next_action(0) == Start((second, third))
        scheduler.mark_call()
        assert scheduler.next_action(0) == Advance()
    scheduler.mark_joined(second)
    assert scheduler.next_action(0) == Start((third,))
    scheduler.mark_call()
    scheduler.mark_joined(third)
    scheduler.mark_denoised(first)
    for _ in range(3):
        assert scheduler.next_action(0) == Advance()
        assert scheduler.next_action(0) == Finish(first)
        scheduler.mark_call()
    scheduler.discard(first)
    assert [scheduler.next_action(0) for _ in range(2)] == [Advance()] * 2


def test_what_takes_no_call_keeps_no_row_waiting_and_no_other_start() -> None:
    """Texts that are known already: the slots are filled at once."""
    scheduler = Scheduler(slots=3)
    tickets = [ticket(str(i), str(i)) for i in range(3)]
    scheduler.submit(tickets)
    for each in tickets:
        assert scheduler.next_action(0) == Start((each,))
        scheduler.mark_joined(each)
    assert scheduler.next_action(0) == Advance()


def test_a_picture_keeps_its_slot_for_its_second_pass() -> None:
    scheduler = Scheduler(slots=1)
    first, second = ticket("1"), ticket("2", "b")
    scheduler.submit([first, second])
    follow(scheduler)
    scheduler.mark_denoised(first, returns=True)
    for _ in range(3):
        assert scheduler.next_action(0) == Finish(first)
    scheduler.mark_joined(first)
    assert scheduler.running == scheduler.holding == (first,)
    scheduler.mark_denoised(first, returns=True)
    scheduler.mark_last(first)
    assert follow(scheduler) == Start((second,))


def test_large_pictures_take_more_slots() -> None:
    """Of four slots: two pictures of twice the size, or one of those and two small ones."""
    scheduler = Scheduler(slots=4)
    large = [ticket(f"large{i}", slots=2) for i in range(2)]
    small = [ticket(f"small{i}") for i in range(3)]
    scheduler.submit([large[0], small[0], small[1], large[1], small[2]])
    for _ in range(20):
        follow(scheduler)
    assert list(scheduler.running) == [large[0], *small[:2]]
    scheduler.mark_denoised(small[0])
    for _ in range(20):
        follow(scheduler)
    assert list(scheduler.waiting)[:1] == [large[1]], "nobody passes it, or it would never start"
    scheduler.mark_denoised(small[1])
    for _ in range(20):
        follow(scheduler)
    assert list(scheduler.running) == large[:2]


def test_what_is_too_large_for_all_slots_goes_alone() -> None:
    scheduler = Scheduler(slots=2)
    first, huge, last = ticket("1"), ticket("2", slots=16), ticket("3")
    scheduler.submit([first, huge, last])
    running: list[tuple[Ticket, ...]] = []
    for _ in range(3):
        for _ in range(20):
            follow(scheduler)
        running.append(scheduler.running)
        scheduler.mark_denoised(scheduler.running[0])
    assert running == [(first,), (huge,), (last,)]


def test_one_client_is_not_passed_for_ever_by_new_ones() -> None:
    """Each of the others comes once, and at the highest priority: those have no past."""
    scheduler = Scheduler(slots=1)
    scheduler.submit([ticket("before", priority=Priority.HIGH)])
    start_next(scheduler)
    scheduler.submit([ticket("again", priority=Priority.HIGH)])
    order: list[str] = []
    for i in range(40):
        while len(scheduler.waiting) < 4:
            scheduler.submit([ticket(f"new{i}", f"once{i}", Priority.HIGH)])
        order += start_next(scheduler)
    assert "again" in order[:8]


@pytest.mark.parametrize("priority", [Priority.NORMAL, Priority.LOW])
def test_no_priority_starves(priority: Priority) -> None:
    """Urgent pictures of new clients come faster than there are slots for them."""
    scheduler = Scheduler(slots=1)
    scheduler.submit([ticket("patient", "z", priority)])
    for second in range(300):
        now = float(second)
        scheduler.submit(
            [ticket(f"{second}{i}", f"{second}{i}", Priority.HIGH, 20, now) for i in (0, 1)]
        )
        if "patient" in start_next(scheduler, now):
            break
    assert second <= (priority + 1) * AGEING_SECONDS


def test_who_comes_later_shares_with_who_has_waited_at_the_same_priority() -> None:
    """A flood that has waited for minutes does not go before everybody else's first picture."""
    scheduler = Scheduler(slots=1)
    scheduler.submit([ticket(f"flood{i}") for i in range(20)])
    later = 10 * AGEING_SECONDS
    scheduler.submit([ticket(f"later{i}", "b", arrived=later) for i in range(3)])
    order = started(scheduler, now=later)
    assert Counter(job[:5] for job in order[:6]) == {"flood": 3, "later": 3}


def test_nothing_to_do() -> None:
    scheduler = Scheduler(slots=1)
    assert scheduler.next_action(0) is None
    only = ticket("1")
    scheduler.submit([only])
    follow(scheduler)
    scheduler.discard(only)
    scheduler.discard(only)
    assert scheduler.next_action(0) is None


@given(
    slots=st.integers(1, 5),
    jobs=st.lists(
        st.tuples(
            st.integers(1, 4),
            st.integers(1, 6),
            st.sampled_from("abc"),
            st.integers(0, 2),
            st.integers(1, 3),
            st.integers(0, 3),
        ),
        max_size=12,
    ),
)
def test_every_picture_is_made_once_and_rows_are_never_held_up(
    slots: int, jobs: list[tuple[int, int, str, int, int, int]]
) -> None:
    """Whatever the number of calls that a picture needs before and after it is denoised."""
    scheduler = Scheduler(slots)
    rows_left: dict[Ticket, int] = {}
    calls_left: dict[Ticket, int] = {}
    for number, (count, rows, client, priority, size, calls) in enumerate(jobs):
        tickets = [
            ticket(str(number), client, Priority(priority), rows, slots=size) for _ in range(count)
        ]
        rows_left.update(dict.fromkeys(tickets, rows))
        calls_left.update(dict.fromkeys(tickets, calls))
        scheduler.submit(tickets)
    finished: list[Ticket] = []
    calls_since_a_row = 0
    while (action := scheduler.next_action(0)) is not None:
        match action:
            case Advance():
                calls_since_a_row = 0
                for each in scheduler.running:
                    rows_left[each] -= 1
                    if not rows_left[each]:
                        scheduler.mark_denoised(each)
                continue
            case Start(together):
                assert len({each.job for each in together}) == 1
                ready, each = scheduler.mark_joined, together[0]
            case Finish(each):
                ready = scheduler.discard
        busy = bool(scheduler.running)
        if calls_left[each]:
            calls_left[each] -= 1
            calls_since_a_row = calls_since_a_row + 1 if busy else 0
            scheduler.mark_call()
        if not calls_left[each]:
            calls_left[each] = jobs[int(each.job)][5]
            ready(each)
            if isinstance(action, Finish):
                finished.append(each)
        assert calls_since_a_row <= 1
        held = sum(each.slots for each in scheduler.holding)
        assert held <= slots or len(scheduler.holding) == 1
    assert sorted(map(id, finished)) == sorted(map(id, rows_left))
    assert not any(rows_left.values())


@pytest.mark.parametrize("slots", [1, 4])
def test_fewer_slots_take_effect_when_pictures_leave(slots: int) -> None:
    scheduler = Scheduler(slots)
    tickets = [ticket("1") for _ in range(5)]
    scheduler.submit(tickets)
    follow(scheduler)
    scheduler.slots = 1
    for each in tickets[: slots - 1]:
        scheduler.mark_denoised(each)
    assert len(scheduler.running) == 1
    seen = {type(follow(scheduler)) for _ in range(6)}
    assert Start not in seen
