"""Who may start: first come, first served, and nobody waits for what others in line leave free."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainenv.training.admission import Grant, Limit, Need, Ticket, admitted, standings

FOUR_GPUS: dict[str, int | None] = {"0": 80, "1": 80, "2": 80, "3": 80}


def need(**wanted: Any) -> Need:
    return Need(**{"all_gpus": FOUR_GPUS, "all_cpus": (0, 1, 2, 3), "all_memory": 100, **wanted})


def line(*needs: Need, running: int = 0) -> list[Ticket]:
    """Tickets in this order, of which the first ``running`` have got what they want."""
    tickets = [Ticket(number, f"task-{number}", each) for number, each in enumerate(needs, 1)]
    grants = admitted(tickets)
    return [
        Ticket(each.number, each.task, each.need, grants[each.number] if each.number <= running else None)
        for each in tickets
    ]


def told(tickets: list[Ticket]) -> list[str]:
    return [str(standing) for standing in standings(tickets).values()]


def test_gpus_go_by_number_to_who_came_first() -> None:
    tickets = line(*[need(gpus=2)] * 5, running=2)
    assert [each.grant for each in tickets[:2]] == [Grant(("0", "1")), Grant(("2", "3"))]
    assert admitted(tickets) == {}
    assert told(tickets) == ["waiting for 2 GPUs", "waiting for 2 GPUs, 1 ahead", "waiting for 2 GPUs, 2 ahead"]


def test_nobody_overtakes_one_who_wants_more() -> None:
    tickets = line(need(gpus=3), need(gpus=2), need(gpus=1), running=1)
    assert admitted(tickets) == {}
    assert told(tickets)[1] == "waiting for 1 GPU, 1 ahead"


def test_those_who_want_other_things_go_on() -> None:
    tickets = line(need(gpus=4), need(gpus=1, cpus=1), need(cpus=2), need(cpus=2), running=1)
    assert admitted(tickets) == {3: Grant(cpus=(1, 2))}, "CPU 0 is put aside for the second"
    assert told(tickets) == ["waiting for 1 GPU", "waiting for its turn", "waiting for 2 CPUs, 2 ahead"]


def test_one_who_waits_for_a_limit_leaves_the_machine_to_others() -> None:
    one = (Limit("method probe", "its turn among tasks of probe", 1),)
    tickets = line(need(gpus=1, limits=one), need(gpus=3, limits=one), need(gpus=3), need(limits=one), running=1)
    assert admitted(tickets) == {3: Grant(("1", "2", "3"))}
    assert told(tickets)[0] == "waiting for its turn among tasks of probe (1 at once)"
    assert told(tickets)[2] == "waiting for its turn among tasks of probe (1 at once), 1 ahead"


def test_memory_is_counted() -> None:
    tickets = line(need(memory=60), need(memory=50), need(memory=40), running=1)
    assert admitted(tickets) == {}
    assert told(tickets)[0] == "waiting for 50 B of memory"
    assert admitted(tickets[1:]) == {2: Grant(), 3: Grant()}


def test_gpus_are_shared_by_their_memory_and_whole_ones_kept_free() -> None:
    tickets = line(need(gpus=1, gpu_memory=50), need(gpus=1, gpu_memory=30), need(gpus=1, gpu_memory=40), need(gpus=2))
    grants = admitted(tickets)
    assert [grants[number].gpus for number in (1, 2, 3, 4)] == [("0",), ("0",), ("1",), ("2", "3")]


def test_who_shares_needs_gpus_of_known_size() -> None:
    unknown: dict[str, int | None] = {"0": None, "1": None}
    tickets = line(*[need(gpus=1, gpu_memory=10, all_gpus=unknown)] * 3)
    assert {number: grant.gpus for number, grant in admitted(tickets).items()} == {1: ("0",), 2: ("1",)}


def test_who_sees_only_some_gpus_waits_for_those() -> None:
    first: dict[str, int | None] = {"0": 80}
    tickets = line(need(gpus=1, all_gpus=first), need(gpus=1, all_gpus=first), need(gpus=1), running=1)
    assert admitted(tickets) == {3: Grant(("1",))}


def test_a_gpu_that_something_else_uses_is_not_given() -> None:
    tickets = line(need(gpus=1), need(gpus=1))
    assert admitted(tickets, without_gpus={1: {"0"}}) == {1: Grant(("1",)), 2: Grant(("0",))}
    assert admitted(tickets, without_gpus={1: set(FOUR_GPUS)}) == {}, "the second does not overtake the first"


wants = st.builds(
    need,
    gpus=st.integers(0, 4),
    gpu_memory=st.sampled_from([None, None, 20, 50]),
    cpus=st.integers(0, 4),
    memory=st.sampled_from([0, 30, 80]),
    limits=st.lists(st.sampled_from([Limit("a", "a", 1), Limit("b", "b", 2)]), unique=True).map(tuple),
)


@given(st.lists(wants, max_size=12), st.data())
def test_nothing_is_given_twice_and_everybody_gets_his_turn(needs: list[Need], data: st.DataObject) -> None:
    waiting = {number: Ticket(number, "", each) for number, each in enumerate(needs, 1)}
    running: dict[int, Ticket] = {}
    while waiting or running:
        turns = admitted([*running.values(), *waiting.values()])
        assert turns or running, "the first in line can always start on an idle machine"
        for number, grant in turns.items():
            ticket = waiting.pop(number)
            running[number] = Ticket(number, "", ticket.need, grant)
        hold_no_more_than_there_is(list(running.values()))
        if running:
            del running[data.draw(st.sampled_from(sorted(running)))]


def hold_no_more_than_there_is(running: list[Ticket]) -> None:
    grants = [(each.need, each.grant) for each in running if each.grant is not None]
    cpus = [cpu for _, grant in grants for cpu in grant.cpus]
    assert len(cpus) == len(set(cpus)) == sum(need.cpus for need, _ in grants)
    assert sum(need.memory for need, _ in grants) <= 100
    for gpu in FOUR_GPUS:
        users = [need.gpu_memory for need, grant in grants if gpu in grant.gpus]
        assert users == [None] or sum(each if each is not None else 1000 for each in users) <= 80
    assert all(len(grant.gpus) == need.gpus for need, grant in grants)
    for key, at_once in (("a", 1), ("b", 2)):
        assert sum(limit.key == key for need, _ in grants for limit in need.limits) <= at_once


@pytest.mark.parametrize("count", [2, 7])
def test_the_longest_waiting_is_never_starved(count: int) -> None:
    """However many small ones come after it, what a large one wants is kept for it."""
    large = Ticket(3, "", need(gpus=4))
    small = [Ticket(number, "", need(gpus=1)) for number in range(4, 4 + count)]
    running = [Ticket(1, "", need(gpus=1), Grant(("0",))), Ticket(2, "", need(gpus=1), Grant(("1",)))]
    assert admitted([*running, large, *small]) == {}
    assert admitted([large, *small]) == {3: Grant(("0", "1", "2", "3"))}
